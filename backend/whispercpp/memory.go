package whispercpp

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// memory is what is known of how much an engine takes, in bytes.
type memory struct {
	weights uint64

	mu    sync.Mutex
	guess uint64 // of what a slot takes, for as long as none was seen
	slot  uint64 // what a slot was seen to take of a GPU's memory, its widest search included
	state uint64 // what the library says that a state takes
}

func (m *memory) sawSlot(size uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slot = max(m.slot, size)
}

func (m *memory) sawState(size uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = max(m.state, size)
}

// ofSlot is what a slot takes of a GPU.
func (m *memory) ofSlot() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slot == 0 {
		return m.guess
	}
	return m.slot
}

// bytes is what the weights and so many slots take.
func (m *memory) bytes(slots int, short bool) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := m.state
	if short {
		states *= 2
	}
	return m.weights + uint64(slots)*max(states, m.slot)
}

// stateSize reads what a new state takes for one of its parts from a line of the library's log, such
// as "whisper_init_state: kv cross size =   12.58 MB" or "compute buffer (conv)   =   16.26 MB".
func stateSize(line string) (uint64, bool) {
	if !strings.HasPrefix(line, "whisper_init_state:") {
		return 0, false
	}
	_, size, found := strings.Cut(line, "=")
	size, isMB := strings.CutSuffix(strings.TrimSpace(size), " MB")
	if !found || !isMB {
		return 0, false
	}
	mb, err := strconv.ParseFloat(strings.TrimSpace(size), 64)
	return uint64(mb * 1e6), err == nil && mb >= 0
}

func fileSize(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return uint64(info.Size())
}
