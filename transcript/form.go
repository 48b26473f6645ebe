package transcript

// Limits bounds what a form may ask for.
type Limits struct {
	BeamSizeMax int // largest beam_size; 0: 8
	BestOfMax   int // largest best_of; 0: 8
}

// PromptBytesMax is how much of a prompt is kept: its end, cut at a rune boundary.
const PromptBytesMax = 2 << 10

// MeansDefault tells whether a model name stands for the default model of the server.
func MeansDefault(model string) bool { return model == "" }

// ParseForm reads and validates the fields of a request.
func ParseForm(api API, task Task, form map[string][]string, limits Limits) (Params, *Error) {
	return Params{API: api, Task: task}, nil
}
