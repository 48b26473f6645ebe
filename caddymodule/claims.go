package caddymodule

import (
	"slices"
	"sync"
)

// claims are which pools of the process want an address, so that no two use one that was found: each would count its
// slots alone. Two pools that are configured with one are refused before it comes to this, see [App].
type claims struct {
	mu    sync.Mutex
	wants map[string][]claim // by the address's key; who has wanted it longest comes first
}

type claim struct {
	pool       *Pool
	configured bool // and not found
}

var claimed claims

// set says all that a pool wants: the keys of addresses, and whether they are configured. It returns which of them
// others have, and who. Pools for which that changes anything are told, and look again.
func (c *claims) set(p *Pool, wanted map[string]bool) (others map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wants == nil {
		c.wants = map[string][]claim{}
	}
	own := func(other claim) bool { return other.pool == p }
	for key, all := range c.wants {
		if _, still := wanted[key]; !still && slices.ContainsFunc(all, own) {
			c.change(p, key, slices.DeleteFunc(slices.Clone(all), own))
		}
	}
	others = map[string]string{}
	for key, configured := range wanted {
		all := slices.Clone(c.wants[key])
		if i := slices.IndexFunc(all, own); i >= 0 {
			all[i].configured = configured
		} else {
			all = append(all, claim{p, configured})
		}
		c.change(p, key, all)
		if holder := holder(all); holder != p && !configured {
			others[key] = holder.name
		}
	}
	return others
}

// holder is who may use an address: who is configured with it, else who found it first; nil: nobody wants it.
func holder(all []claim) *Pool {
	if i := slices.IndexFunc(all, func(c claim) bool { return c.configured }); i >= 0 {
		return all[i].pool
	}
	if len(all) == 0 {
		return nil
	}
	return all[0].pool
}

// change stores who wants an address. Requires mu.
func (c *claims) change(p *Pool, key string, all []claim) {
	if holder(all) != holder(c.wants[key]) {
		for _, other := range all {
			if other.pool != p {
				other.pool.reclaimSoon()
			}
		}
	}
	if c.wants[key] = all; len(all) == 0 {
		delete(c.wants, key)
	}
}

// reclaimSoon has a pool look again which of the addresses that it found it may use.
func (p *Pool) reclaimSoon() {
	select {
	case p.reclaim <- struct{}{}:
	default: // it is about to
	}
}

// reclaims brings the pool into line with what it may use now.
func (p *Pool) reclaims() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refine()
	p.remember(p.current)
}
