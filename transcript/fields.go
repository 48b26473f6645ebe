package transcript

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	valueBytesMax = 64 << 10 // of one field
	valuesMax     = 1024     // of all fields together
	quotedMax     = 64       // characters of a value that an error repeats
)

// fields reads the values of a form. It remembers the first refusal and goes on with zero values
// after it, so that the readers need no error paths of their own.
type fields struct {
	form map[string][]string
	err  *Error
}

func (f *fields) refuse(param, code, format string, args ...any) {
	if f.err == nil {
		f.err = Invalid(param, code, format, args...)
	}
}

// Quote makes a value that a client sent fit for an error message: quoted, cut to 64 characters,
// control characters and invalid bytes escaped.
func Quote(value string) string {
	if cut := firstRunes(value, quotedMax); len(cut) < len(value) {
		return strconv.Quote(cut + "…")
	}
	return strconv.Quote(value)
}

// firstRunes is the first n characters of s; an invalid byte counts as one.
func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// firstBytes is the start of s, of at most n bytes, that ends at a rune boundary.
func firstBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// lastBytes is the end of s, of at most n bytes, that starts at a rune boundary.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return s
}

// checkSizes bounds every field, also those that are ignored: who sends 64 KiB in a field most
// likely has the wrong name on the file.
func (f *fields) checkSizes() {
	names := make([]string, 0, len(f.form))
	count := 0
	for name, values := range f.form {
		names = append(names, name)
		count += len(values)
	}
	if count > valuesMax {
		f.refuse("", codeTooMany, "The form has %d values; at most %d are read.", count, valuesMax)
		return
	}
	slices.Sort(names) // so that the same form always gets the same answer
	for _, name := range names {
		for _, value := range f.form[name] {
			if len(value) > valueBytesMax {
				f.refuse(clean(name, quotedMax), codeTooLong, "The field %s has %d bytes; at most %d are read. The audio goes in the field file, sent as a file.", Quote(name), len(value), valueBytesMax)
				return
			}
		}
	}
}

// text is the one value of a field, "" when it is not given.
func (f *fields) text(name string) string {
	values := slices.DeleteFunc(slices.Clone(f.form[name]), func(v string) bool { return v == "" })
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1:
		f.refuse(name, codeTooMany, "%s is given %d times; send it once.", name, len(values))
		return ""
	}
	return f.checkText(name, values[0])
}

// list is the values of a field that may be repeated, its name written with and without "[]".
func (f *fields) list(name string) []string {
	var values []string
	for _, key := range []string{name, name + "[]"} {
		for _, value := range f.form[key] {
			if value != "" {
				values = append(values, f.checkText(name, value))
			}
		}
	}
	return values
}

// checkText refuses what is no text. A NUL would end the string early in C.
func (f *fields) checkText(name, value string) string {
	if !utf8.ValidString(value) {
		f.refuse(name, codeEncoding, "%s is %s, which is not valid UTF-8; send the text as UTF-8.", name, Quote(value))
		return ""
	}
	if strings.ContainsRune(value, 0) {
		f.refuse(name, codeInvalid, "%s is %s, which contains a NUL character; send plain text.", name, Quote(value))
		return ""
	}
	return value
}

// number reads a decimal number between low and high.
func (f *fields) number(name string, low, high float64) (value float64, given bool) {
	text := strings.TrimSpace(f.text(name))
	if text == "" {
		return 0, false
	}
	value, err := strconv.ParseFloat(text, 64)
	plain := strings.Trim(text, "+-.0123456789eE") == "" // no hexadecimal, no "inf", no "nan"
	if err != nil || !plain || math.IsNaN(value) || value < low || value > high {
		f.refuse(name, codeInvalid, "%s is %s; send a number from %v to %v.", name, Quote(text), low, high)
		return 0, false
	}
	return value + 0, true // -0 becomes 0
}

// optional is number for a parameter whose zero is a value.
func (f *fields) optional(name string, low, high float64) *float64 {
	if value, given := f.number(name, low, high); given {
		return &value
	}
	return nil
}

// integer reads a whole number between low and high, which some clients write as "5.0".
func (f *fields) integer(name string, low, high int) (value int, given bool) {
	text := strings.TrimSpace(f.text(name))
	if text == "" {
		return 0, false
	}
	whole, fraction, _ := strings.Cut(text, ".")
	value, err := strconv.Atoi(whole)
	if err != nil || strings.Trim(fraction, "0") != "" || value < low || value > high {
		f.refuse(name, codeInvalid, "%s is %s; send a whole number from %d to %d.", name, Quote(text), low, high)
		return 0, false
	}
	return value, true
}

// flag reads a boolean as whisper.cpp's server spells it, in any case, and with the other
// spellings of no; an SDK's null counts as not given.
func (f *fields) flag(name string, unset bool) bool {
	text := strings.TrimSpace(f.text(name))
	switch strings.ToLower(text) {
	case "", "null", "none":
		return unset
	case "true", "1", "yes", "y", "on", "t":
		return true
	case "false", "0", "no", "n", "off", "f":
		return false
	}
	f.refuse(name, codeInvalid, "%s is %s; send true or false.", name, Quote(text))
	return unset
}

// format reads response_format. A format in unsupported exists elsewhere and gets its own words.
func (f *fields) format(unsupported ...string) Format {
	text := strings.TrimSpace(f.text("response_format"))
	switch format := Format(text); format {
	case "":
		return JSON
	case JSON, Text, SRT, VTT, VerboseJSON:
		return format
	}
	if slices.Contains(unsupported, text) {
		f.refuse("response_format", codeUnsupportedValue, "response_format %s is not supported: this server doesn't tell speakers apart; use json, text, srt, verbose_json or vtt.", text)
		return JSON
	}
	f.refuse("response_format", codeInvalid, "response_format is %s; allowed are json, text, srt, verbose_json and vtt.", Quote(text))
	return JSON
}

// language turns what the client wrote into a code; "" means detect.
func (f *fields) language(given string) string {
	code, ok := LanguageCode(given)
	if !ok {
		f.refuse("language", codeInvalid, "language is %s, which whisper doesn't know; send a code such as en or de, or auto to detect it.", Quote(given))
	}
	return code
}
