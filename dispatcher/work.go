package dispatcher

import "github.com/whisperpool/whisperpool/scheduler"

// Work is Snapshot with the jobs behind its counts: all that run, and the first few of the queue.
func (d *Dispatcher) Work(waitingMax int) (scheduler.Snapshot, scheduler.Work) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return scheduler.Snapshot{}, scheduler.Work{}
	}
	now := d.Now()
	return d.core.SnapshotAt(now), d.core.WorkAt(now, waitingMax)
}
