package scheduler

// attributed is how many of the jobs that wait are predicted to be served by each GPU class; together they are all
// that wait. Those that nobody can serve now are in the class "", and told apart. It is for telling of which class there
// are too few backends, and changes nothing.
func (s *Scheduler) attributed(now Instant) (out map[string]float64, unserved float64) {
	out = make(map[string]float64)
	for _, c := range s.classes {
		if c.waiting > 0 && !s.attribute(c, now, out) {
			unserved += float64(c.waiting)
		}
	}
	return out, unserved
}

// attribute shares the jobs of a queue among those who can serve it, by how fast each drains it, as in drainOf:
//
//  1. One that is idle while they wait is not waited for, unless all are.
//  2. One whose speed is not known counts as the mean of the others, slot by slot.
//  3. Where nobody can serve them now they are nobody's, which is the class "", and false is returned.
func (s *Scheduler) attribute(c *class, now Instant, out map[string]float64) bool {
	audio := max(1, c.waitingUnits()/float64(c.waiting)-defaultUnits(0))
	idle := func(b *backend) bool { return len(b.running) < s.limit(b) }
	allIdle := true
	for _, b := range c.serving {
		allIdle = allIdle && (!b.takes(now) || idle(b))
	}
	var whole float64
	var known, unknown int                   // slots
	rates := make([]float64, len(c.serving)) // 0: not known; below: not counted with
	for i, b := range c.serving {
		if !b.takes(now) || idle(b) && !allIdle { // (1)
			rates[i] = -1
			continue
		}
		if c.modelIndex >= len(b.speeds) || b.speeds[c.modelIndex] == nil || !b.speeds[c.modelIndex].Known() {
			unknown += b.slots()
			continue
		}
		speed := b.speeds[c.modelIndex]
		rates[i] = float64(b.slots()) / (speed.Theta(b.slots()) * speed.Cost.Of(audio))
		whole += rates[i]
		known += b.slots()
	}
	perSlot := 1.0 // (2)
	if known > 0 {
		perSlot = whole / float64(known)
	}
	if whole += perSlot * float64(unknown); whole == 0 { // (3)
		out[""] += float64(c.waiting)
		return false
	}
	for i, b := range c.serving {
		switch rate := rates[i]; {
		case rate > 0:
			out[b.Class] += float64(c.waiting) * rate / whole
		case rate == 0:
			out[b.Class] += float64(c.waiting) * perSlot * float64(b.slots()) / whole
		}
	}
	return true
}
