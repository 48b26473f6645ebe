package scheduler

// turnCredit jobs of a tenant that had nothing waiting go before those of others that were served no more than
// it. Without, of two that come together the second waits for one of a tenant that sends a flood, and the
// slowest hundredth of the answers of those who stay below their share take 1.4 times as long as without the
// flood, with it 1.3; 1.2 is what waiting for a job that runs costs anyway.
const turnCredit = 2

// tenant is somebody who has unsettled jobs.
type tenant struct {
	id      Tenant
	number  int     // its place among the tenants
	jobs    int     // unsettled
	waiting int     //
	units   float64 // of the jobs that wait
	turn    float64 // start tag of the next job
	charged float64 // in the round in progress, for jobs that were looked at and wait
}

// tenantOf returns the record of a tenant with one job more.
func (s *Scheduler) tenantOf(id Tenant) *tenant {
	t := s.tenantByID[id]
	if t == nil {
		t = s.spareTenants.get()
		*t = tenant{id: id, number: len(s.tenants)}
		s.tenants = append(s.tenants, t)
		s.tenantByID[id] = t
	}
	t.jobs++
	return t
}

// leave takes a settled job off its tenant's record.
func (s *Scheduler) leave(t *tenant) {
	if t.jobs--; t.jobs == 0 {
		last := len(s.tenants) - 1
		s.tenants[t.number] = s.tenants[last]
		s.tenants[t.number].number = t.number
		s.tenants = s.tenants[:last]
		delete(s.tenantByID, t.id)
		s.spareTenants.put(t)
	}
}

// charge moves a tenant's turn by a job of it that is dispatched for the first time.
func (s *Scheduler) charge(j *job) {
	s.virtual = max(s.virtual, j.tenant.turn)
	j.tenant.turn += s.costOf(j)
}

// costOf is what a job counts for in its tenant's turn: the seconds that the fastest backend would take,
// which is the same whoever serves it. Nothing is counted while there is but one tenant.
func (s *Scheduler) costOf(j *job) float64 {
	if len(s.tenants) < 2 {
		return 0
	}
	return j.class.perUnit * defaultUnits(j.AudioSeconds)
}

// lookedAt has a job that still waits count for the rest of the round as if it had been served, so that
// tenants take turns also in looking past it.
func (s *Scheduler) lookedAt(j *job) {
	if cost := s.costOf(j); j.queued && cost > 0 {
		j.tenant.charged += cost
		s.round.charged = append(s.round.charged, j.tenant)
	}
}
