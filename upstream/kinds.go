package upstream

import (
	"slices"

	"github.com/whisperpool/whisperpool/audio"
)

// kinds are all kinds, in the order in which documentation and error messages list them.
var kinds = []Kind{whisperPool{}, openAI{}, whisperServer{}}

// ByName finds a kind by its name in the Caddyfile.
func ByName(name string) (Kind, bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name() == name })
	if i < 0 {
		return nil, false
	}
	return kinds[i], true
}

// Names lists the names of all kinds.
func Names() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name()
	}
	return names
}

// Plain tells whether every kind reads that kind of audio file: those that whisper.cpp decodes by itself.
func Plain(f audio.Format) bool {
	switch f {
	case audio.WAV, audio.FLAC, audio.MP3, audio.OggVorbis:
		return true
	}
	return false
}
