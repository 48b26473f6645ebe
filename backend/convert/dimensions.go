package convert

import (
	"fmt"
	"strings"
)

// Vocabulary sizes of the whisper models; whisper.cpp tells them apart by these
// numbers and counts the languages from them.
const (
	vocabularyEnglish      = 51864
	vocabularyMultilingual = 51865
	vocabularyLargeV3      = 51866 // one more language, Cantonese
)

// layersMax bounds the layers of a side; the largest whisper has 32.
const layersMax = 128

// dimensions are the numbers at the head of a ggml file.
type dimensions struct {
	vocabulary                                        int
	audioContext, audioState, audioHeads, audioLayers int
	textContext, textState, textHeads, textLayers     int
	mels                                              int
}

// measure reads the dimensions off the shapes of the weights.
func measure(w *weights) (dimensions, error) {
	var d dimensions
	positions, err := w.shaped("encoder/position_encodings/encodings", 2)
	if err != nil {
		return d, err
	}
	d.audioContext, d.audioState = positions[0], positions[1]
	if positions, err = w.shaped("decoder/position_encodings/encodings", 2); err != nil {
		return d, err
	}
	d.textContext, d.textState = positions[0], positions[1]
	if d.audioState != d.textState {
		return d, fmt.Errorf("%s has an encoder %d wide and a decoder %d wide, where whisper.cpp needs equal ones", w.path, d.audioState, d.textState)
	}
	embeddings, err := w.shaped("decoder/embeddings/weight", 2)
	if err != nil {
		return d, err
	}
	d.vocabulary = embeddings[0]
	if d.vocabulary < vocabularyEnglish || d.vocabulary > vocabularyLargeV3 {
		return d, fmt.Errorf("%s has a vocabulary of %d tokens, where whisper's have %d (English), %d or %d", w.path, d.vocabulary, vocabularyEnglish, vocabularyMultilingual, vocabularyLargeV3)
	}
	convolution, err := w.shaped("encoder/conv1/weight", 3)
	if err != nil {
		return d, err
	}
	if d.mels = convolution[1]; d.mels != 80 && d.mels != 128 {
		return d, fmt.Errorf("%s hears %d mel bands, where whisper's models hear 80 or 128", w.path, d.mels)
	}
	if d.audioLayers, err = w.layers("encoder"); err != nil {
		return d, err
	}
	if d.textLayers, err = w.layers("decoder"); err != nil {
		return d, err
	}
	if d.audioHeads, err = w.heads("encoder", d.audioState); err != nil {
		return d, err
	}
	d.textHeads, err = w.heads("decoder", d.textState)
	return d, err
}

// shaped is the shape of a variable that must be there and have this rank.
func (w *weights) shaped(name string, rank int) ([]int, error) {
	v, ok := w.lookup(name)
	if !ok {
		return nil, w.lacks(name)
	}
	if len(v.shape) != rank {
		return nil, w.misshapen(v, "of a whisper model")
	}
	return v.shape, nil
}

func (w *weights) lacks(name string) error {
	return fmt.Errorf("%s lacks the variable %q of a whisper model: export it again", w.path, name)
}

func (w *weights) misshapen(v variable, want string) error {
	return fmt.Errorf("%s has the variable %q with the shape %v, which is not the shape %s: export it again", w.path, v.name, v.shape, want)
}

// layers counts the layers of a side by the highest number in a name, so that a
// layer missing in the middle is found to be missing and not taken for the end.
func (w *weights) layers(side string) (int, error) {
	count := 0
	for _, name := range w.names() {
		rest, ok := strings.CutPrefix(name, side+"/layer_")
		if !ok {
			continue
		}
		var number int
		if n, _ := fmt.Sscanf(rest, "%d/", &number); n != 1 || number < 0 {
			continue // layer_norm
		}
		if number >= layersMax {
			return 0, fmt.Errorf("%s has a variable %q, where whisper's sides have at most %d layers", w.path, name, layersMax)
		}
		count = max(count, number+1)
	}
	if count == 0 {
		return 0, w.lacks(side + "/layer_0/self_attention/linear_0/weight")
	}
	return count, nil
}

// names are the names of all variables, then all aliases, whose order does not
// matter to any caller.
func (w *weights) names() []string {
	names := make([]string, 0, len(w.variables)+len(w.aliases))
	for _, v := range w.variables {
		names = append(names, v.name)
	}
	for alias := range w.aliases {
		names = append(names, alias)
	}
	return names
}

// heads is the count of attention heads. It is the variable num_heads of the
// side; exports older than that variable have none, and then it is the width
// divided by 64, which every whisper model has per head. config.json of a
// CTranslate2 folder does not tell it.
func (w *weights) heads(side string, state int) (int, error) {
	heads, ok := w.scalar(side + "/num_heads")
	if !ok {
		heads = state / 64
	}
	if heads <= 0 || state%heads != 0 {
		return 0, fmt.Errorf("%s has an %s %d wide, which does not divide into %d attention heads: export it again", w.path, side, state, heads)
	}
	return heads, nil
}
