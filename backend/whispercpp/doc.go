// Package whispercpp is the engine that runs real whisper.cpp: one copy of a model's weights and
// one whisper_state per slot, each on an OS thread of its own. It is the project's only cgo, behind
// the build tag whispercpp; without the tag [New] says how to get it.
//
// whisper.cpp is trusted with nothing that a client or a file can say: [CheckModel] walks a model
// file before the library sees it, and every parameter is checked again here, because a wrong one
// can crash the process, loop for ever or answer with another client's words.
package whispercpp
