package gpu

import "testing"

func TestParseClass(t *testing.T) {
	for in, want := range map[string]Class{
		"t4": T4, "T4": T4, "a10g\n": A10G, "h100": H100, "cpu": CPU, "l4": L4, "a100": A100,
		"desk-cpu": "desk-cpu", "": "",
	} {
		if got := ParseClass(in); got != want {
			t.Errorf("ParseClass(%q) = %q, want %q", in, got, want)
		}
	}
	if Class("desk-cpu").Known() || !A10G.Known() {
		t.Error("Known does not tell a label from a class")
	}
}

func TestFromDevice(t *testing.T) {
	for name, want := range map[string]Class{
		"CUDA0: NVIDIA A10G": A10G, "Tesla T4": T4, "NVIDIA H100 80GB HBM3": H100, "NVIDIA L4": L4,
		"NVIDIA A100-SXM4-40GB": A100, "CPU": CPU,
		"NVIDIA RTX A1000": "", "NVIDIA L40S": "", "NVIDIA H200": "", "": "",
	} {
		got, ok := FromDevice(name)
		if got != want || ok != (want != "") {
			t.Errorf("FromDevice(%q) = %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestFamilyOf(t *testing.T) {
	for name, want := range map[string]Family{
		"base": Base, "base.en": Base, "ggml-base.bin": Base, "ggml-base.en-q5_1.bin": Base,
		"tiny.en": Tiny, "Small": Small, "medium.en": Medium,
		"large": Large, "large-v3": Large, "ggml-large-v3-q5_0.bin": Large, "openai/whisper-large-v2": Large,
		"large-v3-turbo": Turbo, "large-v3-turbo-q8_0": Turbo, "turbo": Turbo,
		"Systran/faster-whisper-small.en": Small,
		"distil-large-v3":                 "", "parakeet": "", "": "", "whisper-1": "",
	} {
		got, ok := FamilyOf(name)
		if got != want || ok != (want != "") {
			t.Errorf("FamilyOf(%q) = %q, %v, want %q", name, got, ok, want)
		}
	}
}
