// Package transcript says what is asked of a transcription and what its answer is: one value for
// the parameters ([Params]), one for the answer ([Transcript]), the five response formats, and
// the error shape of OpenAI's API ([Error]). The proxy and the backend both speak through it, so
// that they refuse the same requests with the same words.
//
// It knows nothing of HTTP routing, of backends or of whisper.cpp.
package transcript

// Transcript is the answer to one transcription, whatever format it is later rendered in.
type Transcript struct {
	Task     Task
	Language string  // ISO 639-1 code as whisper.cpp lists it, "" when unknown
	Duration float64 // seconds of audio that were transcribed, 0 when unknown
	Segments []Segment
	Words    []Word // only when asked for; empty otherwise

	LanguageProbs map[string]float64 // by code, where the engine told them; nil otherwise

	// Mended: times that no recording has, negative ones or whole years, were put right when the
	// answer was read, so that its own bytes had better not be passed on.
	Mended bool
}

// Segment is a stretch of speech with its time. Times are seconds from the start of the audio.
type Segment struct {
	ID               int // position, from 0
	Seek             int // mel frames (10 ms) from the start to the window it was decoded from; 0 when unknown
	Start, End       float64
	Text             string
	Tokens           []int
	Temperature      float64
	AvgLogprob       float64
	CompressionRatio float64
	NoSpeechProb     float64

	// Speaker is who is louder, by the channel: "0" or "1", "?" where neither is; "" where nobody asked.
	Speaker string
	// Words are those of this segment, where the engine told them so: for whisper.cpp's API its tokens,
	// with the space that begins a word. They come beside [Transcript.Words].
	Words []Word
}

// Word is one word with its time in seconds from the start of the audio.
type Word struct {
	Word        string
	Start, End  float64
	Probability float64
}
