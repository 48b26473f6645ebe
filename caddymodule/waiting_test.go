package caddymodule

import (
	"bytes"
	"io"
	"os"
	"sync"
	"testing"
)

// TestNewestMoveToFiles: as requests come in, the newest uploads that wait go to files, one that is being sent
// and those that are gone do not, all can be read all the time, and nothing stays counted.
func TestNewestMoveToFiles(t *testing.T) {
	const limit = 8*chunkSize + 8*requestShare
	acc, dir, data := new(account), t.TempDir(), noise(2*chunkSize-10)
	come := func() *spool {
		s := &spool{account: acc, memory: limit, dir: dir}
		s.enter()
		if _, err := s.ReadFrom(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	var all []*spool
	for range 4 {
		all = append(all, come())
	}
	sent := all[3].Open()
	if _, err := io.ReadFull(sent, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	inMemory := func() (flags []bool) {
		for _, s := range all {
			s.mu.RLock()
			flags = append(flags, s.file == nil)
			s.mu.RUnlock()
		}
		return flags
	}
	for n, want := range [][]bool{
		{true, true, true, true, false}, // one that comes when all is full goes to a file itself
		{true, true, true, true, false, false},
		{true, true, true, true, false, false, false},
		{true, true, true, true, false, false, false, false},
		{true, true, false, true, false, false, false, false, false},
	} {
		all = append(all, come())
		got := inMemory()
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%d came: %v, want %v", n+5, got, want)
			}
		}
		if used := acc.memory.Load() + requestShare*acc.requests.Load(); used > limit {
			t.Errorf("%d of %d bytes are used", used, limit)
		}
	}
	for _, s := range all {
		if got, err := io.ReadAll(s.Open()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		s.Close()
		s.Close()
	}
	if acc.memory.Load() != 0 || acc.held.Load() != 0 || acc.requests.Load() != 0 || acc.spools.Len() != 0 {
		t.Errorf("left: %d in memory, %d held, %d requests, %d listed", acc.memory.Load(), acc.held.Load(), acc.requests.Load(), acc.spools.Len())
	}
}

// TestMovingFails: an upload stays in memory, whole, when the disk fails.
func TestMovingFails(t *testing.T) {
	acc, data := new(account), noise(chunkSize)
	dir := t.TempDir()
	s := &spool{account: acc, memory: 1 << 20, dir: dir}
	if _, err := s.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	s.moveToFile()
	if got, err := io.ReadAll(s.Open()); err != nil || !bytes.Equal(got, data) || s.file != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s.Close()
}

// TestMovingWhileRead: readers, moves and closes side by side.
func TestMovingWhileRead(t *testing.T) {
	acc, dir, data := new(account), t.TempDir(), noise(3*chunkSize+5)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				s := &spool{account: acc, memory: 10*chunkSize + 8*requestShare, dir: dir}
				s.enter()
				if _, err := s.ReadFrom(bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
				wg.Go(func() {
					if other := acc.newest(); other != nil {
						other.moveToFile()
					}
				})
				if got, err := io.ReadAll(s.Open()); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	if acc.memory.Load() != 0 || acc.held.Load() != 0 || acc.requests.Load() != 0 || acc.spools.Len() != 0 {
		t.Errorf("left: %d in memory, %d held, %d requests, %d listed", acc.memory.Load(), acc.held.Load(), acc.requests.Load(), acc.spools.Len())
	}
}
