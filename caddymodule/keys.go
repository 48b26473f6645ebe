package caddymodule

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// grant is what the owner of a key may do.
type grant struct {
	name      string
	perMinute int // requests, 0: no limit
	jobs      int // requests at a time, 0: no limit
}

// keyring knows the API keys of a site by their hashes. It is read once and then only looked at.
type keyring struct {
	grants map[uint64][]keyed // by the first bytes of the hash
}

type keyed struct {
	hash  [sha256.Size]byte
	grant *grant
}

// Limits of keys. The longest is above any token of an identity provider.
const (
	keyMin       = 16
	keyMax       = 4 << 10
	keyHashStart = "sha256:"
)

// keySalt makes hashes that mean nothing outside of this process, so that how long a look-up takes
// tells nothing of the keys either.
var keySalt = func() (salt [sha256.Size]byte) {
	_, _ = rand.Read(salt[:]) // never fails
	return salt
}()

// salted is the hash that keys are known by, of the SHA-256 of a key.
func salted(sum []byte) (hash [sha256.Size]byte, start uint64) {
	mac := hmac.New(sha256.New, keySalt[:])
	mac.Write(sum)
	mac.Sum(hash[:0])
	for _, b := range hash[:8] {
		start = start<<8 | uint64(b)
	}
	return hash, start
}

// loadKeys reads the keys of the option api_keys, whose placeholders are expanded now, so that each
// reload reads them anew. Errors tell lines and names, never keys.
func loadKeys(option string, repl *caddy.Replacer) (*keyring, error) {
	if option == "" {
		return nil, nil
	}
	text, err := repl.ReplaceOrErr(option, true, true)
	if err != nil {
		return nil, fmt.Errorf("api_keys %s: nothing could be read from there", option)
	}
	ring, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("api_keys %s: %w", option, err)
	}
	return ring, nil
}

// parseKeys reads a key a line: a name, the key or the SHA-256 of it, and limits. One name may have
// several keys, so that they can be changed without a gap; they share its limits.
func parseKeys(text string) (*keyring, error) {
	ring := &keyring{grants: map[uint64][]keyed{}}
	byName := map[string]*grant{}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 2*keyMax)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := ring.add(words, byName); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if lines.Err() != nil {
		return nil, errors.New("a line is too long")
	}
	if len(byName) == 0 {
		return nil, errors.New("there is no key; write one a line: <name> <key> [requests_per_minute=<count>] [jobs=<count>]")
	}
	return ring, nil
}

func (k *keyring) add(words []string, byName map[string]*grant) error {
	if len(words) < 2 {
		return errors.New("write <name> <key> [requests_per_minute=<count>] [jobs=<count>]")
	}
	g := &grant{name: words[0]}
	if checkName("name", g.name) != nil { // without its words: they would quote what may be a key
		return errors.New("the name, which comes before the key, must be up to 128 printable characters without commas, quotes and braces")
	}
	sum, err := keySum(words[1])
	if err != nil {
		return fmt.Errorf("key of %s: %w", g.name, err)
	}
	for _, word := range words[2:] {
		if err := g.limit(word); err != nil {
			return fmt.Errorf("key of %s: %w", g.name, err)
		}
	}
	if first := byName[g.name]; first == nil {
		byName[g.name] = g
	} else if *first != *g {
		return fmt.Errorf("the keys of %s have different limits; they share them, so write the same ones", g.name)
	}
	hash, start := salted(sum)
	if other := k.find(hash, start); other != nil {
		return fmt.Errorf("key of %s: %s has the same key already", g.name, other.name)
	}
	k.grants[start] = append(k.grants[start], keyed{hash, byName[g.name]})
	return nil
}

// keySum is the SHA-256 of a key, which may be written in its place.
func keySum(text string) ([]byte, error) {
	if digits, hashed := strings.CutPrefix(text, keyHashStart); hashed {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != sha256.Size {
			return nil, errors.New("sha256: must be followed by 64 hexadecimal digits")
		}
		return sum, nil
	}
	if len(text) < keyMin || len(text) > keyMax {
		return nil, fmt.Errorf("it has %d characters; use %d to %d, from a generator of random ones", len(text), keyMin, keyMax)
	}
	sum := sha256.Sum256([]byte(text))
	return sum[:], nil
}

func (g *grant) limit(word string) error {
	name, value, _ := strings.Cut(word, "=")
	field := map[string]*int{"requests_per_minute": &g.perMinute, "jobs": &g.jobs}[name]
	if field == nil {
		return errors.New("after the key only requests_per_minute=<count> and jobs=<count> may follow")
	}
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 || n > countMax || *field != 0 {
		return fmt.Errorf("%s must be given once, as a number from 1 to %d", name, countMax)
	}
	*field = n
	return nil
}

func (k *keyring) find(hash [sha256.Size]byte, start uint64) *grant {
	var found *grant
	for _, known := range k.grants[start] {
		if subtle.ConstantTimeCompare(known.hash[:], hash[:]) == 1 {
			found = known.grant
		}
	}
	return found
}

// of is what the key of a request allows; nil: it has none, or one that is not known.
func (k *keyring) of(r *http.Request) *grant {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	key = strings.TrimSpace(key)
	if !strings.EqualFold(scheme, "Bearer") || len(key) > keyMax {
		key = ""
	}
	sum := sha256.Sum256([]byte(key))
	return k.find(salted(sum[:])) // too short a key is in no ring
}

// checkAPIKeys wants keys to come from somewhere else, for configurations are printed, logged and sent about.
func checkAPIKeys(option string) error {
	if placeholderPattern.ReplaceAllString(option, "") != "" {
		return errors.New("api_keys must name where the keys are, such as {file./etc/whisperpool/keys} or {env.WHISPERPOOL_KEYS}, and not hold them")
	}
	return nil
}
