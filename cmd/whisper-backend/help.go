package main

import (
	"flag"
	"fmt"
	"strings"
)

const helpHead = `whisper-backend serves whisper models on one GPU (or on the CPU) over HTTP.

Usage:
  whisper-backend --model PATH [flags]       serve ggml models with whisper.cpp
  whisper-backend --engine emulator [flags]  serve made-up texts with a GPU's timing
  whisper-backend convert DIR OUT            turn faster-whisper's models into ggml files
  whisper-backend calibrate -o FILE          measure a server, for the emulator's --profile

It answers
  POST /v1/audio/transcriptions, /v1/audio/translations   as OpenAI's API does
  POST /inference, /load                                  as whisper.cpp's server does
  POST /asr, /detect-language                             as whisper-asr-webservice does
  GET  /v1/models, /v1/models/{id}, /health, /status, /load-report, /metrics

SIGTERM and Ctrl-C let jobs finish, SIGHUP reads the API keys again. With systemd it is a service
of Type=notify, ready when the default model is loaded.
`

const helpFoot = `
Examples:
  whisper-backend --model ggml-base.bin --listen :8000 --api-key-file keys
  whisper-backend --model ggml-base.bin --models-dir /var/lib/whisper --memory-max 8GiB
  whisper-backend --model ggml-large-v3.bin --gpu 1 --listen 127.0.0.1:8001 --max-slots 6
  whisper-backend --model ggml-base.bin --vad-model ggml-silero-v6.2.0.bin --vad
  whisper-backend --model ggml-large-v3.bin --gpu required --gpu-class A10G --slots 4
  whisper-backend --engine emulator --emulate-class H100 --emulate-model large-v3
`

const helpWidth = 100

// help explains every flag.
func help() string {
	o := newOptions()
	var w strings.Builder
	w.WriteString(helpHead)
	for _, g := range groups {
		fmt.Fprintf(&w, "\n%s:\n", g.title)
		for _, name := range g.flags {
			f := o.flags.Lookup(name)
			value, text := flag.UnquoteUsage(f)
			text = strings.TrimPrefix(text, value+" ")
			if f.DefValue != "" && f.DefValue != "0s" && value != "" {
				text += fmt.Sprintf(" (default %s)", defaultOf(f))
			}
			fmt.Fprintf(&w, "  --%s\n%s", strings.TrimSpace(name+" "+value), wrapped(text, "      ", helpWidth))
		}
	}
	w.WriteString(helpFoot)
	return w.String()
}

// defaultOf writes durations without the zeros that their text ends in.
func defaultOf(f *flag.Flag) string {
	text := f.DefValue
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// wrapped breaks text into lines of at most width characters, each with the indent in front.
func wrapped(text, indent string, width int) string {
	var out, line strings.Builder
	for _, word := range strings.Fields(text) {
		if line.Len() > 0 && len(indent)+line.Len()+1+len(word) > width {
			fmt.Fprintf(&out, "%s%s\n", indent, line.String())
			line.Reset()
		}
		if line.Len() > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(word)
	}
	fmt.Fprintf(&out, "%s%s\n", indent, line.String())
	return out.String()
}
