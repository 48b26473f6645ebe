package gpu

import "testing"

// The reference's own estimate: a T4 holds about 12 slots of large on one copy of the weights (16 by
// these figures, were nothing else there), never 20.
func TestSlotsThatFit(t *testing.T) {
	m, ok := MemoryOfModel("ggml-large-v3.bin")
	fit := (MemoryOf("t4") - m.Weights) / m.Slot
	if !ok || fit < 12 || fit > 17 {
		t.Errorf("%d slots of large fit a T4", fit)
	}
	before := Memory{}
	for _, model := range []string{"tiny", "base", "small", "medium", "large"} {
		m, ok := MemoryOfModel(model)
		if !ok || m.Weights <= before.Weights || m.Slot <= before.Slot {
			t.Errorf("%s takes %+v, the smaller one %+v", model, m, before)
		}
		before = m
	}
	for _, c := range Classes() {
		if _, law := LawOf(string(c), "base"); law != (MemoryOf(string(c)) > 0) {
			t.Errorf("%s: a law without memory, or the other way round", c)
		}
	}
	if _, ok := MemoryOfModel("parakeet"); ok {
		t.Error("a model of no family")
	}
}
