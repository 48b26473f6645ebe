package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
)

const (
	// speedsVersion is that of speedsFile with all that is in it. Other versions are discarded, so it is
	// raised with every change.
	speedsVersion = 1
	// speedsEvery is how often speeds that have changed are stored.
	speedsEvery = 30 * time.Second
	// storageTimeout is how long a storage that is far away may take, and startTimeout how long that may
	// keep a pool from starting.
	storageTimeout = 10 * time.Second
	startTimeout   = time.Second
)

// speedsFile is what a pool has learned, as it is kept in Caddy's storage.
type speedsFile struct {
	Version int                     `json:"version"`
	Pool    string                  `json:"pool"`
	Saved   time.Time               `json:"saved"` // the records' ages are of then
	Speeds  []scheduler.SpeedRecord `json:"speeds"`
}

// storage is the part of Caddy's storage that is used here.
type storage interface {
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
}

// speedKeeper keeps the speeds of a pool over restarts. Nothing that goes wrong with it is more than
// logged: without it speeds are learned again.
type speedKeeper struct {
	pool    string
	speeds  func() []scheduler.SpeedRecord
	restore func([]scheduler.SpeedRecord)
	log     func() *zap.Logger

	mu         sync.Mutex  // one saves at a time
	kept       []byte      // what was learned, as it was stored last
	failing    bool        // and it is logged
	unanswered atomic.Bool // the storage has not come back from an earlier call
}

// speedsKey is where a pool's speeds are.
func speedsKey(pool string) string { return "whisperpool/speeds/" + fileName(pool) + ".json" }

// fileName is a name for files that no other pool has; its own may be none for a file.
func fileName(pool string) string {
	sum := sha256.Sum256([]byte(pool))
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '_'
	}, pool)
	return name + "-" + hex.EncodeToString(sum[:4])
}

// load gives the pool what an earlier process has learned. A storage that takes long to answer is not waited
// for: it holds then for those backends of which nothing has been learned meanwhile.
func (k *speedKeeper) load(from storage) {
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
		defer cancel()
		text, err := from.Load(ctx, speedsKey(k.pool))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		var speeds []scheduler.SpeedRecord
		if err == nil {
			speeds, err = readSpeeds(text, k.pool, time.Now())
		}
		if err != nil {
			k.log().Warn("what was learned of speeds before can't be used and will be learned again",
				zap.String("key", speedsKey(k.pool)), zap.Error(err))
			return
		}
		k.restore(speeds)
		k.log().Info("took over what was learned of speeds before", zap.Int("speeds", len(speeds)))
	}()
	select {
	case <-loaded:
	case <-time.After(startTimeout):
	}
}

// readSpeeds reads what was stored, and makes its ages those of now.
func readSpeeds(text []byte, pool string, now time.Time) ([]scheduler.SpeedRecord, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("it is broken: %w", err)
	}
	if version.Version != speedsVersion {
		return nil, fmt.Errorf("it is of version %d, and this program reads version %d", version.Version, speedsVersion)
	}
	var file speedsFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("it is broken: %w", err)
	}
	if file.Pool != pool {
		return nil, fmt.Errorf("it is of the pool %q", file.Pool)
	}
	for i := range file.Speeds {
		r := &file.Speeds[i]
		if err := r.Learned.Validate(); err != nil {
			return nil, fmt.Errorf("it is broken: %s with %s: %w", r.Address, r.Model, err)
		}
		r.Age = within(r.Age) + within(now.Sub(file.Saved)) // a clock may have been put back
	}
	return file.Speeds, nil
}

// within is an age that can be added to another one: a file may tell any number.
func within(age time.Duration) time.Duration { return min(max(0, age), math.MaxInt64/2) }

// run stores what has changed, now and then.
func (k *speedKeeper) run(ctx context.Context, to func() storage) {
	tick := time.NewTicker(speedsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.save(to())
		}
	}
}

// save stores what was learned, if it has changed. It comes back within storageTimeout, whatever the storage
// does.
func (k *speedKeeper) save(to storage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	speeds := k.speeds()
	slices.SortFunc(speeds, func(a, b scheduler.SpeedRecord) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Model, b.Model))
	})
	learned, err := json.Marshal(ageless(speeds))
	if err == nil && (len(speeds) == 0 || bytes.Equal(k.kept, learned)) {
		return
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(speedsFile{speedsVersion, k.pool, time.Now().Round(time.Second).UTC(), speeds})
	}
	if err == nil {
		err = k.store(to, text)
	}
	if err != nil {
		if !k.failing {
			k.log().Warn("what was learned of speeds can't be stored; it is tried again", zap.String("key", speedsKey(k.pool)), zap.Error(err))
		}
		k.failing = true
		return
	}
	if k.failing {
		k.log().Info("what was learned of speeds is stored again")
	}
	k.kept, k.failing = learned, false
}

// store has a storage that does not keep to its context keep no more than one goroutine.
func (k *speedKeeper) store(to storage, text []byte) error {
	if k.unanswered.Swap(true) {
		return errors.New("the storage does not answer")
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		err := to.Store(ctx, speedsKey(k.pool), text)
		k.unanswered.Store(false)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select { // it may have ended just now
		case err := <-done:
			return err
		default:
			return ctx.Err()
		}
	}
}

func ageless(speeds []scheduler.SpeedRecord) []scheduler.SpeedRecord {
	out := slices.Clone(speeds)
	for i := range out {
		out[i].Age = 0
	}
	return out
}
