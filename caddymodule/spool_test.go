package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/iotest"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestSpool(t *testing.T) {
	for _, c := range []struct {
		name         string
		size, memory int
		file         bool
	}{
		{"nothing", 0, 1 << 20, false},
		{"less than a chunk", 1000, 1 << 20, false},
		{"one chunk", chunkSize, 1 << 20, false},
		{"some chunks", 3*chunkSize + 17, 1 << 20, false},
		{"all of the memory", 4 * chunkSize, 4 * chunkSize, false},
		{"one byte more", 4*chunkSize + 1, 4 * chunkSize, true},
		{"no memory", 1000, 1, true},
		{"far more", 6*chunkSize + 5, chunkSize, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, acc, data := t.TempDir(), new(account), noise(c.size)
			s := &spool{account: acc, memory: int64(c.memory), dir: dir}
			n, err := s.ReadFrom(iotest.HalfReader(bytes.NewReader(data)))
			if err != nil || n != int64(c.size) || s.size != n {
				t.Fatalf("%d, %v", n, err)
			}
			if (s.file != nil) != c.file || acc.held.Load() != n || acc.memory.Load() > int64(c.memory) || c.file && acc.memory.Load() != 0 {
				t.Errorf("file %v, held %d, memory %d", s.file != nil, acc.held.Load(), acc.memory.Load())
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("the file has a name: %v, %v", entries, err)
			}
			if s.file != nil {
				if info, err := s.file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
			}
			var wg sync.WaitGroup
			for range 3 { // readers side by side
				wg.Go(func() {
					got, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(s.Open(), 2000)))
					if err != nil || !bytes.Equal(got, data[:min(2000, len(data))]) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					if got, err := io.ReadAll(s.Open()); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
			if c.size > 0 {
				if err := iotest.TestReader(s.Open(), data); err != nil {
					t.Error(err)
				}
			}
			reader := s.Open()
			s.Close()
			s.Close()
			if acc.held.Load() != 0 || acc.memory.Load() != 0 {
				t.Errorf("held %d, memory %d after Close", acc.held.Load(), acc.memory.Load())
			}
			var own *spoolError
			if _, err := reader.Read(make([]byte, 1)); c.size > 0 && !errors.As(err, &own) {
				t.Errorf("reading after Close: %v", err)
			}
		})
	}
}

func TestSpoolLimits(t *testing.T) {
	acc := new(account)
	s := &spool{account: acc, memory: 1 << 20, bytesMax: 3 * chunkSize, dir: t.TempDir()}
	if _, err := s.ReadFrom(bytes.NewReader(noise(4 * chunkSize))); !errors.Is(err, errNoRoom) {
		t.Errorf("%v", err)
	}
	other := &spool{account: acc, memory: 1 << 20, bytesMax: 3 * chunkSize, dir: t.TempDir()}
	if _, err := other.ReadFrom(bytes.NewReader(noise(1))); !errors.Is(err, errNoRoom) {
		t.Errorf("%v", err)
	}
	s.Close()
	if _, err := other.ReadFrom(bytes.NewReader(noise(1))); err != nil {
		t.Errorf("after the other was closed: %v", err)
	}
	other.Close()

	broken := errors.New("broken")
	s = &spool{account: acc, memory: 1 << 20, dir: t.TempDir()}
	if _, err := s.ReadFrom(io.MultiReader(bytes.NewReader(noise(10)), iotest.ErrReader(broken))); !errors.Is(err, broken) || s.size != 10 {
		t.Errorf("%v after %d bytes", err, s.size)
	}
	s.Close()

	var own *spoolError
	s = &spool{account: acc, memory: 0, dir: t.TempDir() + "/missing"}
	if _, err := s.ReadFrom(bytes.NewReader(noise(10))); !errors.As(err, &own) {
		t.Errorf("%v", err)
	}
	s.Close()
	if acc.held.Load() != 0 || acc.memory.Load() != 0 {
		t.Errorf("held %d, memory %d", acc.held.Load(), acc.memory.Load())
	}
}

func TestDefaultBytesMax(t *testing.T) {
	g := &generation{spools: map[string]bool{t.TempDir(): true}}
	free, ok := diskFree(t.TempDir())
	if !ok {
		t.Skip("free space is not known here")
	}
	if got := g.bytesMax(0); got > defaultQueueBytes || got > free || got < min(defaultQueueBytes, free/2)/2 {
		t.Errorf("%d with %d free", got, free)
	}
	g.config.Queue.MaxBytes = 7
	if got := g.bytesMax(0); got != 7 {
		t.Errorf("%d", got)
	}
}

// pacedReader gives what it has in pieces of the given sizes, over and over.
type pacedReader struct {
	data  []byte
	sizes []int
	reads int
	most  int // the largest buffer that it was given
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	r.most = max(r.most, len(p))
	n := copy(p[:min(len(p), r.sizes[r.reads%len(r.sizes)])], r.data)
	r.reads++
	r.data = r.data[n:]
	return n, nil
}

// TestInflow: what flows is read in large pieces, what trickles holds no buffer, and all of it arrives.
func TestInflow(t *testing.T) {
	data := noise(1 << 20)
	for _, c := range []struct {
		name  string
		sizes []int
		reads int // at most
		large bool
	}{
		{"fast", []int{1 << 20}, 30, true},
		{"packets", []int{1400}, 800, false},
		{"by fits and starts", []int{1 << 20, 100}, 600, true},
	} {
		r := &pacedReader{data: data, sizes: c.sizes}
		f := &inflow{r: r}
		var whole bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&whole}, f, make([]byte, 4096)) // as package mime/multipart reads
		got := whole.Bytes()
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if r.reads > c.reads || (r.most == chunkSize) != c.large {
			t.Errorf("%s: %d reads, into up to %d bytes", c.name, r.reads, r.most)
		}
		if f.buffer != nil || buffers.lent.Load() != 0 {
			t.Errorf("%s: %d buffers are lent still", c.name, buffers.lent.Load())
		}
	}
}

// TestBuffersAreBounded: when all are lent, reading goes on without.
func TestBuffersAreBounded(t *testing.T) {
	var lent []*chunk
	for range surgeMax {
		lent = append(lent, buffers.borrow())
	}
	if b := buffers.borrow(); b != nil {
		t.Error("one buffer too many")
	}
	data, acc := noise(1<<20), new(account)
	s := &spool{account: acc, memory: chunkSize, dir: t.TempDir()}
	if n, err := s.ReadFrom(&inflow{r: bytes.NewReader(data)}); err != nil || n != 1<<20 {
		t.Fatalf("%d, %v", n, err)
	}
	if got, err := io.ReadAll(s.Open()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s.Close()
	for _, b := range lent {
		buffers.giveBack(b)
	}
	if n := buffers.lent.Load(); n != 0 {
		t.Errorf("%d are lent", n)
	}
}
