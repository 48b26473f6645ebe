package main

import "testing"

func TestParallelism(t *testing.T) {
	for _, c := range []struct {
		name                   string
		slots, threads, cores  int
		class, model           string
		wantSlots, wantThreads int
	}{
		{"a small CPU", 0, 0, 2, "CPU", "base", 1, 2},
		{"a desktop", 0, 0, 8, "CPU", "base", 1, 8},
		{"a large CPU", 0, 0, 32, "cpu", "base", 4, 8},
		{"a huge CPU", 0, 0, 192, "CPU", "base", 8, 8},
		{"an unknown GPU", 0, 0, 16, "", "base", 1, 8},
		{"a GPU without a law", 0, 0, 16, "L4", "base", 1, 8},
		{"a T4 with large", 0, 0, 16, "T4", "large-v3", 2, 8},
		{"an A10G with large", 0, 0, 16, "A10G", "large-v3", 2, 8},
		{"an H100 with large", 0, 0, 16, "H100", "large-v3", 5, 3},
		{"an H100 with few cores", 0, 0, 2, "H100", "large-v3", 2, 1},
		{"slots given", 4, 0, 8, "CPU", "base", 4, 2},
		{"threads given", 0, 4, 8, "A10G", "base", 2, 4},
		{"both given, more than there is", 4, 4, 2, "CPU", "base", 4, 4},
		{"more slots than cores", 4, 0, 2, "CPU", "base", 4, 1},
	} {
		slots, threads := parallelism(c.slots, c.threads, c.cores, c.class, c.model)
		if slots != c.wantSlots || threads != c.wantThreads {
			t.Errorf("%s: %d slots of %d threads, want %d of %d", c.name, slots, threads, c.wantSlots, c.wantThreads)
		}
		if (c.slots == 0 || c.threads == 0) && c.slots <= c.cores && slots*threads > c.cores {
			t.Errorf("%s: %d x %d is more than %d cores", c.name, slots, threads, c.cores)
		}
	}
}

func TestModelID(t *testing.T) {
	for _, c := range []struct{ model, id, want string }{
		{"/models/ggml-base.bin", "", "base"},
		{"ggml-base.en-q5_1.bin", "", "base.en-q5_1"},
		{"large-v3.bin", "", "large-v3"},
		{"/models/ggml-base.bin", "mine", "mine"},
	} {
		if got := (&options{model: c.model, modelID: c.id}).id(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
