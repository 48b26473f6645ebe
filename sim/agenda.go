package sim

import (
	"container/heap"

	"github.com/whisperpool/whisperpool/scheduler"
)

// agenda is what will happen, in order of time and, at one time, in the order it was put there.
type agenda struct {
	entries entries
	put     uint64
}

type entry struct {
	at  scheduler.Instant
	seq uint64
	do  func()
}

// at has do called at t.
func (a *agenda) at(t scheduler.Instant, do func()) {
	a.put++
	heap.Push(&a.entries, entry{t, a.put, do})
}

// first is when the next thing happens; false when nothing will.
func (a *agenda) first() (scheduler.Instant, bool) {
	if len(a.entries) == 0 {
		return 0, false
	}
	return a.entries[0].at, true
}

// next takes the next thing out.
func (a *agenda) next() func() { return heap.Pop(&a.entries).(entry).do }

type entries []entry

func (e entries) Len() int { return len(e) }
func (e entries) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *entries) Push(x any)   { *e = append(*e, x.(entry)) }
func (e *entries) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = entry{}
	*e = (*e)[:last]
	return x
}
