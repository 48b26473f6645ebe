package gpu

import (
	"regexp"
	"strings"
)

// Family is a size of whisper model. All models of a family have the same shape, so they take the
// same time, whatever their language, version or quantisation.
type Family string

// The families.
const (
	Tiny   Family = "tiny"
	Base   Family = "base"
	Small  Family = "small"
	Medium Family = "medium"
	Large  Family = "large"
	Turbo  Family = "turbo"
)

// decoration is what people put around a family's name: the maker, the program, the quantisation.
var (
	prefixes = []string{"ggml-", "faster-", "openai-", "whisper-"}
	suffix   = regexp.MustCompile(`(\.bin|-q\d_\d|\.en)$`)
)

// FamilyOf finds the family of a model by its name: "base.en", "ggml-large-v3-q5_0.bin",
// "openai/whisper-large-v3-turbo". Distilled models have a decoder of their own and are of no
// family.
func FamilyOf(model string) (Family, bool) {
	name := strings.ToLower(strings.TrimSpace(model))
	name = name[strings.LastIndexByte(name, '/')+1:]
	for _, p := range prefixes {
		name = strings.TrimPrefix(name, p)
	}
	for {
		bare := suffix.ReplaceAllString(name, "")
		if bare == name {
			break
		}
		name = bare
	}
	switch name {
	case "tiny", "base", "small", "medium":
		return Family(name), true
	case "large", "large-v1", "large-v2", "large-v3":
		return Large, true
	case "turbo", "large-v3-turbo":
		return Turbo, true
	}
	return "", false
}
