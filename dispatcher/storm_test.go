package dispatcher_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestCancelStorm: 500 clients of whom half leave at any moment, on backends that fail at times,
// while the configuration changes. Nothing may be left behind, no slot be used twice.
func TestCancelStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 2
		var trials atomic.Int32
		lively := func(ids ...scheduler.BackendID) scheduler.Config {
			cfg := backends(slots, ids...)
			cfg.Trials, cfg.Hedge = true, true
			return cfg
		}
		d := start(t, lively("a", "b", "c"), dispatcher.Options{Trial: func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			trials.Add(1)
			return takes(time.Duration(rand.IntN(200))*time.Millisecond)(ctx, a)
		}})
		defer d.Close()
		running := map[scheduler.BackendID]*atomic.Int32{"a": {}, "b": {}, "c": {}}
		var settled [scheduler.Poison + 1]atomic.Int32
		try := func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			if n := running[a.Backend].Add(1); n > slots {
				t.Errorf("%d attempts on the %d slots of %s", n, slots, a.Backend)
			}
			defer running[a.Backend].Add(-1)
			o := takes(time.Duration(rand.IntN(400))*time.Millisecond)(ctx, a)
			if o.Result == scheduler.Success && rand.IntN(20) == 0 {
				return scheduler.Outcome{Result: scheduler.Died}
			}
			return o
		}
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				time.Sleep(time.Duration(rand.IntN(5000)) * time.Millisecond)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if rand.IntN(2) == 0 {
					leave := time.AfterFunc(time.Duration(rand.IntN(2000))*time.Millisecond, cancel)
					defer leave.Stop()
				}
				settled[d.Run(ctx, job(), try).Reason].Add(1)
			})
		}
		for i := range 10 {
			time.Sleep(300 * time.Millisecond)
			ids := [][]scheduler.BackendID{{"a", "b", "c"}, {"a", "b"}, {"c", "a"}}[i%3]
			if err := d.Configure(lively(ids...)); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if err := d.Configure(backends(slots, "a", "b", "c")); err != nil { // no more trials
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		isIdle(t, d)
		t.Logf("%d trials", trials.Load())
		served, gone := settled[scheduler.Served].Load(), settled[scheduler.ClientGone].Load()
		if served < 100 || gone < 50 {
			t.Errorf("%d served and %d gone: the storm was none", served, gone)
		}
	})
}
