package peers

import (
	"math/rand/v2"
	"time"
)

// leastTime is Traefik's leasttime: the lowest mean of the last 100 times to the first byte, in whole
// milliseconds, times the requests in flight + 1; equals by earliest deadline, which with equal
// weights is in turn. A server that was not seen yet counts 0. It binds on arrival. Here the first byte
// comes with the last, as whisper servers answer.
type leastTime struct {
	recent   [][]int64 // by server, milliseconds; the last leastTimeRecent
	next     []int
	sum      []int64
	deadline []float64
	now      float64 // the deadline that was served last
	lowest   []int
}

const leastTimeRecent = 100

func newLeastTime(pool []Server, _ *rand.Rand) Balancer {
	n := len(pool)
	l := &leastTime{recent: make([][]int64, n), next: make([]int, n), sum: make([]int64, n), deadline: make([]float64, n)}
	for i := range l.deadline {
		l.deadline[i] = 1
	}
	return l
}

func (l *leastTime) Pick(_ time.Duration, pool []Server) (int, bool) {
	l.lowest = lowest(pool, l.lowest, func(i int) float64 {
		if len(l.recent[i]) == 0 {
			return 0
		}
		return float64(l.sum[i]) / float64(len(l.recent[i])) * float64(pool[i].Outstanding+1)
	})
	best := l.lowest[0]
	for _, i := range l.lowest {
		if l.deadline[i] < l.deadline[best] {
			best = i
		}
	}
	l.now = max(l.now, l.deadline[best])
	l.deadline[best] = l.now + 1
	return best, true
}

func (l *leastTime) Ended(_ time.Duration, server int, took time.Duration, _ int) {
	ms := took.Milliseconds()
	if len(l.recent[server]) < leastTimeRecent {
		l.recent[server] = append(l.recent[server], ms)
	} else {
		at := l.next[server]
		l.sum[server] -= l.recent[server][at]
		l.recent[server][at] = ms
		l.next[server] = (at + 1) % leastTimeRecent
	}
	l.sum[server] += ms
}
