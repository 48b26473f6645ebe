package scheduler_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// written plays a random history and returns its journal, by lines.
func written(t testing.TB, seed uint64, events int) [][]byte {
	c := newChaos(t, seeded(seed))
	text, err := journal.AppendHeader(nil, journal.Header{Config: c.first})
	if err != nil {
		t.Fatal(err)
	}
	c.observed = func(ev scheduler.Event, ds []scheduler.Decision) {
		if text, err = journal.Append(text, journal.Record{At: c.now, Event: ev, Decisions: ds}); err != nil {
			t.Fatal(err)
		}
	}
	c.run(events)
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// TestJournalsReplay: what was written down of any history is decided the same again.
func TestJournalsReplay(t *testing.T) {
	for seed := range uint64(40) {
		lines := written(t, seed, 150)
		r, err := journal.Replay(slices.Values(lines), policies.ByName)
		switch {
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		case r.Difference != nil:
			t.Fatalf("seed %d: %v", seed, r.Difference)
		case r.Records != len(lines)-1 || r.Decisions == 0:
			t.Fatalf("seed %d: %d records with %d decisions replayed of %d", seed, r.Records, r.Decisions, len(lines)-1)
		}
	}
}

// TestReplayFindsDifferences: another policy, or a decision that was not made, is told with the step.
func TestReplayFindsDifferences(t *testing.T) {
	differ := 0
	for seed := range uint64(20) {
		lines := written(t, seed, 150)
		least, _ := policies.ByName("random")
		r, err := journal.Replay(slices.Values(lines), func(string) (scheduler.Policy, bool) { return least, true })
		if err != nil {
			t.Fatal(err)
		}
		if r.Difference != nil {
			differ++
		}
		at := slices.IndexFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"Is":"dispatch"`)) })
		if at < 0 {
			continue
		}
		lines[at] = bytes.Replace(lines[at], []byte(`"Number":`), []byte(`"Number":7`), 1)
		if r, err = journal.Replay(slices.Values(lines), policies.ByName); err != nil || r.Difference == nil || r.Difference.Number != at {
			t.Errorf("seed %d: %+v, %v; want a difference at record %d", seed, r.Difference, err, at)
		}
	}
	if differ < 10 {
		t.Errorf("chance decided as the policy did in all but %d of 20 histories", differ)
	}
}

// TestJournalsWithoutTheirBeginning cannot be compared, and say so instead of failing somehow.
func TestJournalsWithoutTheirBeginning(t *testing.T) {
	lines := written(t, 1, 150)
	if r, err := journal.Replay(slices.Values(slices.Delete(slices.Clone(lines), 1, 20)), policies.ByName); err == nil && r.Difference == nil {
		t.Error("a journal that lacks its first steps was replayed")
	}
	head, err := journal.AppendHeader(nil, journal.Header{Segment: 2})
	if err != nil {
		t.Fatal(err)
	}
	lines[0] = bytes.TrimSpace(head)
	if _, err := journal.Replay(slices.Values(lines), policies.ByName); err == nil {
		t.Error("a later segment was replayed by itself")
	}
	if _, err := journal.Replay(slices.Values(lines[:1]), policies.ByName); err == nil {
		t.Error("the header of a later segment was replayed by itself")
	}
}

// FuzzReplay: whatever a journal says, replaying it ends, without a panic.
func FuzzReplay(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(bytes.Join(written(f, seed, 40), []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := journal.Replay(slices.Values(bytes.Split(text, []byte("\n"))), policies.ByName)
		if err == nil && r.Difference != nil && r.Difference.Error() == "" {
			t.Error("a difference that says nothing")
		}
	})
}
