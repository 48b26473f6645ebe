package transcript

// API names the dialect in which a client asks, and so the shape of its answer.
type API string

// The dialects.
const (
	OpenAI        API = "openai"         // /v1/audio/transcriptions and /v1/audio/translations
	WhisperServer API = "whisper_server" // /inference of whisper.cpp's server
	ASR           API = "asr"            // /asr and /detect-language of whisper-asr-webservice
)

// Task is what to do with the speech.
type Task string

// The tasks.
const (
	Transcribe Task = "transcribe"
	Translate  Task = "translate" // to English
)

// Format is a response format.
type Format string

// The formats. TSV is of whisper-asr-webservice's alone.
const (
	JSON        Format = "json"
	Text        Format = "text"
	SRT         Format = "srt"
	VTT         Format = "vtt"
	VerboseJSON Format = "verbose_json"
	TSV         Format = "tsv"
)

// Params is everything a client asked for besides the audio, validated. The zero value of an
// optional field means the client did not give it.
type Params struct {
	API    API
	Task   Task
	Model  string // as the client wrote it; "" only from /inference and /asr, where it is no more than a wish
	Format Format
	Stream bool // OpenAI only

	Language string // code such as "en"; "" means detect. /inference without a language means "en"
	Prompt   string // cut to the last 2 KiB (see PromptBytesMax)

	Words          bool     // word timestamps, top-level `words` of verbose_json
	Temperature    float64  // 0..1
	TemperatureInc *float64 // 0 or 0.1..1; nil: the engine's default of 0.2
	BestOf         int      // 0: the engine's default
	BeamSize       int      // 0: the engine's default; 1: greedy

	// The rest is whisper.cpp's own, from /inference.
	OffsetMS, DurationMS int      // part of the audio to work on, milliseconds
	OffsetN              int      // number before that of the first SRT cue
	MaxContext           *int     // tokens of text context; nil: default
	MaxLen               int      // characters a segment, 0: no limit
	SplitOnWord          bool     //
	AudioCtx             int      // encoder context, 0..1500; 0: full
	EntropyThold         *float64 //
	LogprobThold         *float64 //
	NoSpeechThold        *float64 //
	WordThold            *float64 //
	NoTimestamps         bool
	TokenTimestamps      bool
	SuppressNonSpeech    bool
	NoLanguageProbs      bool
	CarryPrompt          bool // the prompt goes before every window, not only the first
	DetectOnly           bool // find out the language and transcribe nothing
	Diarize              bool // tell speakers apart by which of two channels is louder
	TinyDiarize          bool // mark where the speaker changes; needs a model that was trained to
	VAD                  VAD

	// PCM: the upload is headerless 16-bit little-endian mono at 16 kHz (/asr with encode=false).
	PCM bool
}

// VAD is what a client wants of voice activity detection. A nil field means the server's default.
type VAD struct {
	On           *bool
	Threshold    *float64 // probability of speech, 0..1
	MinSpeechMS  *int     // shorter stretches of speech are noise
	MinSilenceMS *int     // shorter pauses do not end a stretch
	MaxSpeechS   *float64 // longer stretches are cut
	SpeechPadMS  *int     // added to both ends of a stretch
	Overlap      *float64 // seconds of each stretch that are joined to the next one
}
