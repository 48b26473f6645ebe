package gpu

// memories are the bytes of the cards that have a law, as they are sold.
var memories = map[Class]int64{T4: 16e9, A10G: 24e9, H100: 80e9}

// MemoryOf is how much memory a class of GPU has, in bytes; 0: not known.
func MemoryOf(class string) int64 { return memories[ParseClass(class)] }

// Memory is what a model takes of a card, in bytes.
type Memory struct {
	Weights int64 // once
	Slot    int64 // for each job side by side
}

// modelMemories are for 16-bit weights. Those are as large as their files (whisper.cpp's models/README).
// A slot of tiny and base is what our backend says that it takes on a CPU (tiny.en, base); of small and
// large, 310 and 745 MB, what users saw (pull request 115 of whisrs); of medium, which nobody told, what
// is between these; of turbo, what large's takes without the caches of the 28 layers that it lacks.
var modelMemories = map[Family]Memory{
	Tiny:   {Weights: 78e6, Slot: 146e6},
	Base:   {Weights: 148e6, Slot: 169e6},
	Small:  {Weights: 488e6, Slot: 310e6},
	Medium: {Weights: 1530e6, Slot: 530e6},
	Large:  {Weights: 3100e6, Slot: 745e6},
	Turbo:  {Weights: 1620e6, Slot: 450e6},
}

// MemoryOfModel is what a model takes; ok is false where its family is not known.
func MemoryOfModel(model string) (m Memory, ok bool) {
	family, ok := FamilyOf(model)
	if !ok {
		return Memory{}, false
	}
	return modelMemories[family], true
}
