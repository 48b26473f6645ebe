package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// memoryUse is what so many queued uploads take.
type memoryUse struct {
	Started  time.Time     `json:"started"`
	Version  string        `json:"version"`
	Machine  stage.Machine `json:"machine"`
	Uploads  int           `json:"uploads"`
	Bytes    int64         `json:"upload_bytes"`
	Queued   int           `json:"queued"`      // as the proxy says
	Idle     int64         `json:"rss_idle_mb"` // of the proxy, before
	Full     int64         `json:"rss_full_mb"` // with all of them queued
	Peak     int64         `json:"rss_peak_mb"` // highest until all were answered
	Memory   int64         `json:"uploads_in_memory_mb"`
	Disk     int64         `json:"uploads_in_files_mb"`
	Arrived  float64       `json:"arrived_s"` // until all were queued
	Answered int           `json:"answered"`
}

// filesBeside is what the proxy opens besides, and some to spare.
const filesBeside = 400

// memoryGiveUp bounds the waiting for all uploads to be queued.
const memoryGiveUp = 8 * time.Minute

// memory has a backend hold back its answers until all uploads are queued, looks at what the proxy
// takes, and then has all of them answered.
func (o options) memory(ctx context.Context, out, say io.Writer) error {
	use := memoryUse{Started: time.Now(), Version: stage.Version(o.whisperpool, "version"), Machine: stage.ThisMachine(), Uploads: 10_000}
	if o.short {
		use.Uploads = 1000
	}
	const slots = 4
	// The proxy needs a socket for each upload, and a file for each that does not fit its memory.
	for bench.CheckFiles(2*use.Uploads+filesBeside) != nil {
		if use.Uploads -= 100; use.Uploads <= 0 {
			return errors.New("a process may open too few files here; raise the limit with ulimit -n 20500")
		}
	}
	backend, err := startResponder(true)
	if err != nil {
		return err
	}
	defer backend.stop()
	ps := &stage.Processes{Dir: filepath.Join(o.out, "logs", "memory")}
	defer ps.Stop()
	port, err := stage.FreePort()
	if err != nil {
		return err
	}
	handler := fmt.Sprintf("\thandle /metrics {\n\t\tmetrics\n\t}\n\twhisper_pool {\n\t\tbackend %s {\n\t\t\tkind openai\n\t\t\tslots %d\n\t\t}\n\t\tqueue {\n\t\t\tmax_wait 1h\n\t\t}\n\t\tdefault_model base\n\t}\n", backend.address, slots)
	p, url, err := startCaddy(ctx, ps, ours, o.whisperpool, proxyingCaddyfile(port, handler), port)
	if err != nil {
		return err
	}
	lengths, err := bench.ParseLengths("31.25") // 1,000,000 bytes of 16-bit samples
	if err != nil {
		return err
	}
	audio := bench.NewSpeech(lengths, bench.PCM)
	use.Bytes = audio.Clip(bench.Job{Seconds: 31.25}).Size
	client := bench.NewClient(bench.Target{URL: url + "/v1/audio/transcriptions", Timeout: time.Hour, Fields: [][2]string{{"model", "base"}}}, audio, use.Uploads)
	defer client.Close()
	status := proxyStatus{pid: p.Pid(), url: url}
	if use.Idle, _, err = status.resident(); err != nil {
		return err
	}
	fmt.Fprintf(say, "sending %d uploads of %d bytes\n", use.Uploads, use.Bytes)
	done := make(chan bench.Result, 1)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	// As an open loop, since so many connections at one instant overflow the kernel's queue for them.
	load := bench.Load{Rate: 400, Requests: use.Uploads}
	go func() { done <- bench.Run(running, bench.NewSchedule(load, audio, 1), client.Send, nil) }()
	if err := status.fill(ctx, &use, use.Uploads-slots, done); err != nil {
		return err
	}
	fmt.Fprintf(say, "all are queued; answering them\n")
	backend.release()
	select {
	case result := <-done:
		use.Answered = bench.Summarize(result).OK
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, use.Peak, err = status.resident(); err != nil {
		return err
	}
	use.text(out)
	if err := o.keep("memory", use, nil); err != nil {
		return err
	}
	if use.Answered != use.Uploads {
		return fmt.Errorf("%d of %d uploads were not answered", use.Uploads-use.Answered, use.Uploads)
	}
	return nil
}

// proxyStatus looks at a proxy from outside.
type proxyStatus struct {
	pid int
	url string
}

// resident is the memory that the proxy has now and the most that it had, in MB.
func (s proxyStatus) resident() (now, most int64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.pid), "status"))
	if err != nil {
		return 0, 0, err
	}
	if now, err = stage.Kilobytes(string(text), "VmRSS:"); err != nil {
		return 0, 0, err
	}
	most, err = stage.Kilobytes(string(text), "VmHWM:")
	return now >> 10, most >> 10, err
}

// fill waits until so many are queued and notes what the proxy then takes.
func (s proxyStatus) fill(ctx context.Context, use *memoryUse, queued int, done <-chan bench.Result) error {
	within, cancel := context.WithTimeout(ctx, memoryGiveUp)
	defer cancel()
	started := time.Now()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		text, err := stage.Get(within, s.url+"/metrics")
		var depth float64
		if err == nil { // else it is busy with the uploads
			depth, err = metric(text, `whisperpool_queue_depth{pool="default"}`)
		}
		if use.Queued = int(depth); err == nil && use.Queued >= queued {
			use.Arrived = time.Since(started).Seconds()
			inMemory, err1 := metric(text, `whisperpool_upload_bytes{place="memory",pool="default"}`)
			inFiles, err2 := metric(text, `whisperpool_upload_bytes{place="file",pool="default"}`)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("the proxy's metrics: %w", err)
			}
			use.Memory, use.Disk = int64(inMemory)>>20, int64(inFiles)>>20
			use.Full, _, err = s.resident()
			return err
		}
		select {
		case result := <-done:
			s := bench.Summarize(result)
			return fmt.Errorf("the load ended before all was queued: %d of %d answered, %+v", s.OK, s.Requests, s.Problems)
		case <-within.Done():
			return fmt.Errorf("after %v %d of %d are queued, last error: %w", time.Since(started).Round(time.Second), use.Queued, queued, err)
		case <-ticker.C:
		}
	}
}

func (u memoryUse) text(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s\n%s\n", u.Started.Format("2006-01-02 15:04"), u.Version, u.Machine)
	fmt.Fprintf(w, "%d uploads of %d bytes, %d of them queued: the proxy has %d MB resident (%d MB before, %d MB at most until all were answered);\n"+
		"%d MB of the uploads are in memory and %d MB in files. All were queued after %.0f s; %d were answered.\n",
		u.Uploads, u.Bytes, u.Queued, u.Full, u.Idle, u.Peak, u.Memory, u.Disk, u.Arrived, u.Answered)
}
