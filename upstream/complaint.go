package upstream

import "regexp"

// complaints are faults that servers tell in words that are always the same. A server's own words go
// nowhere else but to the client whose request they answer: they may quote its prompt, its file's name
// or what was said, and logs and other clients must have none of that. So a fault is told in our words,
// or not at all.
var complaints = []struct {
	words *regexp.Regexp
	fault string
}{
	{regexp.MustCompile(`(?i)out of memory|\bOOM\b|cudaMalloc failed|failed to allocate|bad_alloc`), "out of memory"},
	{regexp.MustCompile(`(?i)illegal memory access|device-side assert|unspecified launch failure`), "CUDA error: a crash on the GPU"},
	{regexp.MustCompile(`(?i)no CUDA-capable device|fell off the bus|GPU is lost|device is lost`), "CUDA error: the GPU is gone"},
	{regexp.MustCompile(`(?i)\b(CUDA|cuBLAS|cuDNN)`), "CUDA error"},
	{regexp.MustCompile(`(?i)no space left`), "no space left on its disk"},
	{regexp.MustCompile(`(?i)too many open files`), "too many open files"},
	{regexp.MustCompile(`(?i)ffmpeg`), "its ffmpeg failed"},
	{regexp.MustCompile(`(?i)failed to process audio`), "failed to process audio"},
	{regexp.MustCompile(`(?i)(fail|could ?n.t|could not|can ?not|can't|unable)\w* (to )?(read|decode|load|open) (the )?audio`), "it could not read the audio"},
	{regexp.MustCompile(`\bstof\b|\bstoi\b`), "it could not read a number in the form"},
	{regexp.MustCompile(`(?i)model_not_found|no such model|model\b.{0,200}\b(not found|not exist|not available|not loaded)`), "it does not have the model"},
	{regexp.MustCompile(`(?i)(invalid|incorrect|wrong|missing|no|expired)[ _-](api[ _-]?key|token|credential)`), "it does not accept the key"},
	{regexp.MustCompile(`(?i)quota`), "its quota is used up"},
	{regexp.MustCompile(`(?i)rate[ _-]?limit`), "its rate limit is reached"},
	{regexp.MustCompile(`(?i)\bloading\b`), "loading"},
	{regexp.MustCompile(`(?i)shutting[ _-]?down|draining`), "it is shutting down"},
	{regexp.MustCompile(`(?i)queue[ _](is )?full|overloaded|at capacity|too many (concurrent )?(requests|connections)|\bbusy\b`), "it is full"},
	{regexp.MustCompile(`(?i)time[ _-]?d?[ _-]?out`), "it timed out"},
	{regexp.MustCompile(`(?i)bad gateway`), "Bad Gateway"},
	{regexp.MustCompile(`(?i)service (temporarily )?unavailable`), "Service Unavailable"},
	{regexp.MustCompile(`(?i)\b(log|sign)[ -]?(in|on)\b|authenticat`), "it wants a login"},
}

// complaint is the fault that a server's message tells, "" when it is none that is known.
func complaint(message string) string {
	for _, c := range complaints {
		if c.words.MatchString(message) {
			return c.fault
		}
	}
	return ""
}
