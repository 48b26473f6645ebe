package e2e

import "math"

// differencesJustified is where whisper-backend answers otherwise than whisper.cpp's server, and why.
var differencesJustified = []justified{
	justify(`segments\[\]\.(words\[\]\.)?(start|end)|cue (start|end)`, `.*`,
		"times end with the audio; that server's go on to the end of the window", endsWithAudio),
	justify(`segments\[\]\.no_speech_prob`, `.*`,
		"the pieces of a segment that is cut at max_len have its no_speech_prob; that server's have 0 but for the first",
		func(d difference) bool { return d.theirs == 0.0 }),
	justify(`segments\[\]\.no_speech_prob`, `base/.*`,
		"where a window begins with more than one token, that server takes no_speech_prob from what the request before left; ours is that of a new process", nil).inWhole(),
	justify(`segments\[\]\.(words\[\]\.)?(start|end)`, `.*/vad.*`,
		"without the silence, times are still those of the recording; that server's words have the times of what is left of it, and so has a segment that begins where silence was cut out",
		func(d difference) bool {
			theirs, _ := d.theirs.(float64)
			ours, _ := d.ours.(float64)
			return theirs < ours && ours <= d.seconds
		}).inWhole(),
	justify(`segments\[\]\.(avg_logprob|no_speech_prob|words\[\]\.probability)`, `.*/vad with other settings`,
		"a recording that ends in speech is heard to its last sample, which that server leaves out",
		func(d difference) bool { return near(d, 0.001) }).inWhole(),
	justify(`duration`, `.*`, "durations are rounded to milliseconds", func(d difference) bool { return near(d, 0.001) }),
	justify(`language|detected_language.*|language_probabilities.*`, `tiny\.en/(verbose_json|detect_language|languages of an English model|nothing but the file)`,
		"an English-only model knows one language, and no others are made up for it", nil),
	justify(`segments\[\]\.(avg_logprob|no_speech_prob|words\[\]\.probability)`, `.*/diarize.*`,
		"two channels are averaged, as without diarize; with diarize that server adds them, so that they may clip",
		func(d difference) bool { return near(d, 0.1) }),
	justify(`text|segments\[\]\..*`, `.*/(8|44\.1) kHz`,
		"rates other than 16 kHz are converted with a longer filter", fewWords),
	justify(`status`, `.*/(.* that is no number|.* too large|unknown language)`,
		"a wrong value is the client's mistake, 400, where that server answers 500", func(d difference) bool { return d.theirs == 500.0 && d.ours == 400.0 }),
	justify(`status`, `.*/GET`,
		"GET /inference is 405 with Allow, where that server has 404", func(d difference) bool { return d.theirs == 404.0 && d.ours == 405.0 }),
	justify(`header Access-Control-.* \(how many\)`, `.*/(health|the page|unknown path.*|load.*)`,
		"pages of other sites may use /inference and nothing else", func(d difference) bool { return d.ours == 0 }),
	justify(`header Content-Type|line \(how many\)`, `.*/the page`, "the page is our own", nil),
	justify(`error\..* \(how many\)|header Content-Type|line \(how many\)`, `.*`,
		"errors have OpenAI's shape and say what to do; that server replaces its own by a line of text",
		func(d difference) bool {
			return d.status >= 400 && (d.field != "header Content-Type" || d.theirs == "text/plain" && d.ours == "application/json")
		}),
	justify(`text|segments\[\]\..* \(how many\)`, `.*/for longer than there is`,
		"behind the end of the audio there is nothing; that server makes up words for it", nil).inWhole(),
	justify(`status`, `.*/(German of|translation by) an English model`,
		"what an English-only model cannot do is refused; that server transcribes as English", refusal).inWhole(),
	justify(`status`, `.*/temperature above 1`,
		"temperatures above 1 are refused; that server answers with what the request before left", refusal).inWhole(),
	justify(`segments\[\]\.temperature`, `.*/(a second try|entropy_thold)`,
		"temperature is the one at which a segment was decoded; that server repeats the one that was asked for",
		func(d difference) bool { return d.theirs == 0.0 }).inWhole(),
	justify(`(cue start|cue end|line) \(how many\)`, `.*/no_timestamps as srt`,
		"a cue without times begins at 0; that server writes 00:-16:-47,-260", nil).inWhole(),
}

// endsWithAudio: ours is the end of the audio where theirs lies behind it.
func endsWithAudio(d difference) bool {
	theirs, _ := d.theirs.(float64)
	ours, ok := d.ours.(float64)
	return ok && theirs > d.seconds && math.Abs(ours-d.seconds) < 0.001
}

// refusal: 400 in place of an answer.
func refusal(d difference) bool { return d.theirs == 200.0 && d.ours == 400.0 }

// near: both are numbers, and no further apart.
func near(d difference, distance float64) bool {
	a, isNumber := d.theirs.(float64)
	b, both := d.ours.(float64)
	return isNumber && both && math.Abs(a-b) <= distance
}

// fewWords: of a text at most every third word is another.
func fewWords(d difference) bool {
	a, isText := d.theirs.(string)
	b, both := d.ours.(string)
	if !isText || !both || d.field != "text" {
		return true // what belongs to those words
	}
	wrong, of := wordErrors(a, b)
	return 3*wrong <= of
}
