package upstream

import (
	"path"
	"regexp"
	"strings"
)

// english matches the names of whisper's English-only models as they are written in the wild:
// base.en, ggml-base.en.bin, small.en-q5_1, faster-whisper-tiny.en_int8.
var english = regexp.MustCompile(`\.en($|[-_.])`)

// CanByName tells what a model can do by its name, for models of which no more is known: those of
// the configuration, and of servers whose list has names only. English-only models neither
// translate nor know another language; the turbo models were not trained to translate, and answer
// in the language that was spoken (transcription.md, 2.4).
func CanByName(model string) Can {
	name := strings.ToLower(path.Base(strings.ReplaceAll(model, `\`, "/")))
	multilingual := !english.MatchString(name)
	return Can{
		Translate: multilingual && !strings.Contains(name, "turbo"),
		Words:     true,
		Languages: multilingual,
	}
}

// canAll is [CanByName] for a list.
func canAll(models []string) map[string]Can {
	can := make(map[string]Can, len(models))
	for _, model := range models {
		can[model] = CanByName(model)
	}
	return can
}
