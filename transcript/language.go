package transcript

import "strings"

// languages lists what whisper knows, in the order of its language tokens.
var languages = [...]struct{ code, name string }{
	{"en", "english"}, {"zh", "chinese"}, {"de", "german"}, {"es", "spanish"},
	{"ru", "russian"}, {"ko", "korean"}, {"fr", "french"}, {"ja", "japanese"},
	{"pt", "portuguese"}, {"tr", "turkish"}, {"pl", "polish"}, {"ca", "catalan"},
	{"nl", "dutch"}, {"ar", "arabic"}, {"sv", "swedish"}, {"it", "italian"},
	{"id", "indonesian"}, {"hi", "hindi"}, {"fi", "finnish"}, {"vi", "vietnamese"},
	{"he", "hebrew"}, {"uk", "ukrainian"}, {"el", "greek"}, {"ms", "malay"},
	{"cs", "czech"}, {"ro", "romanian"}, {"da", "danish"}, {"hu", "hungarian"},
	{"ta", "tamil"}, {"no", "norwegian"}, {"th", "thai"}, {"ur", "urdu"},
	{"hr", "croatian"}, {"bg", "bulgarian"}, {"lt", "lithuanian"}, {"la", "latin"},
	{"mi", "maori"}, {"ml", "malayalam"}, {"cy", "welsh"}, {"sk", "slovak"},
	{"te", "telugu"}, {"fa", "persian"}, {"lv", "latvian"}, {"bn", "bengali"},
	{"sr", "serbian"}, {"az", "azerbaijani"}, {"sl", "slovenian"}, {"kn", "kannada"},
	{"et", "estonian"}, {"mk", "macedonian"}, {"br", "breton"}, {"eu", "basque"},
	{"is", "icelandic"}, {"hy", "armenian"}, {"ne", "nepali"}, {"mn", "mongolian"},
	{"bs", "bosnian"}, {"kk", "kazakh"}, {"sq", "albanian"}, {"sw", "swahili"},
	{"gl", "galician"}, {"mr", "marathi"}, {"pa", "punjabi"}, {"si", "sinhala"},
	{"km", "khmer"}, {"sn", "shona"}, {"yo", "yoruba"}, {"so", "somali"},
	{"af", "afrikaans"}, {"oc", "occitan"}, {"ka", "georgian"}, {"be", "belarusian"},
	{"tg", "tajik"}, {"sd", "sindhi"}, {"gu", "gujarati"}, {"am", "amharic"},
	{"yi", "yiddish"}, {"lo", "lao"}, {"uz", "uzbek"}, {"fo", "faroese"},
	{"ht", "haitian creole"}, {"ps", "pashto"}, {"tk", "turkmen"}, {"nn", "nynorsk"},
	{"mt", "maltese"}, {"sa", "sanskrit"}, {"lb", "luxembourgish"}, {"my", "myanmar"},
	{"bo", "tibetan"}, {"tl", "tagalog"}, {"mg", "malagasy"}, {"as", "assamese"},
	{"tt", "tatar"}, {"haw", "hawaiian"}, {"ln", "lingala"}, {"ha", "hausa"},
	{"ba", "bashkir"}, {"jw", "javanese"}, {"su", "sundanese"}, {"yue", "cantonese"},
}

// languageAliases are other names and codes in use for the same languages: newer or older ISO 639
// codes, macrolanguages, and the synonyms that OpenAI's own tokenizer takes.
var languageAliases = map[string]string{
	"burmese": "my", "castilian": "es", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb",
	"mandarin": "zh", "moldavian": "ro", "moldovan": "ro", "panjabi": "pa", "pushto": "ps",
	"sinhalese": "si", "valencian": "ca",
	"cmn": "zh", "fil": "tl", "iw": "he", "jv": "jw", "nb": "no",
}

var languageCodes, languageNames = indexLanguages()

func indexLanguages() (codes, names map[string]string) {
	codes, names = make(map[string]string, 2*len(languages)), make(map[string]string, len(languages))
	for _, l := range languages {
		codes[l.code], codes[l.name], names[l.code] = l.code, l.code, l.name
	}
	for alias, code := range languageAliases {
		codes[alias] = code
	}
	return codes, names
}

// LanguageCode finds whisper's code of a language that is given as a code ("en", "EN"), a tag
// ("en-US", "zh_Hans") or an English name ("English"). "" and "auto" mean that the language is to
// be detected: code "" and ok. ok is false when whisper doesn't know the language.
func LanguageCode(s string) (code string, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" || s == "auto" {
		return "", true
	}
	if code, ok = languageCodes[s]; ok {
		return code, true
	}
	primary := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '_' })
	if len(primary) == 0 || len(primary[0]) > 3 { // codes only: no "english-ish"
		return "", false
	}
	code, ok = languageCodes[primary[0]]
	return code, ok
}

// LanguageName is the English name of a language code in lower case, as OpenAI's verbose_json
// writes it; "" when whisper doesn't know the code.
func LanguageName(code string) string { return languageNames[code] }
