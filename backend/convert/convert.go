// Package convert turns a faster-whisper model, which is a folder in
// CTranslate2's format, into the single ggml file that whisper.cpp loads.
//
// It reads model.bin (binary version 6) and one of tokenizer.json,
// vocabulary.json and vocabulary.txt. It needs no config.json: everything that
// whisper.cpp wants to know is in the shapes of the weights. It is no general
// converter: other architectures, quantised exports and other files are refused
// with a sentence that says what to do instead.
//
// Weights stream through one buffer of fixed size, so that converting large-v3
// takes no more memory than converting tiny. The same folder always gives the
// same bytes: tensors are in the order of the files published for whisper.cpp,
// and nothing depends on the time, the machine or the order of a map.
//
// Silero's model, which tells speech from silence, is converted as well: from
// the TorchScript archive in which its authors publish it, see silero.go.
//
// The command `whisper-backend convert` and scripts/model.sh call it.
package convert

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Convert reads the CTranslate2 model in the folder dir and writes it as a ggml
// file to out; or, where dir is Silero's silero_vad.jit, that model. It writes out + ".part" first and renames it at the end, so out
// is either absent or whole; a leftover ".part" is overwritten. An existing out
// is left as it is and is an error.
//
// progress, which may be nil, is called now and then with the bytes written so
// far and the size that the file will have.
//
// Every error is one sentence that names the folder or file and what is wrong
// with it.
func Convert(dir, out string, progress func(done, total int64)) error {
	if s := openSilero(dir); s != nil {
		defer s.close()
		if err := s.check(); err != nil {
			return err
		}
		return write(out, s, progress)
	}
	path, err := findModel(dir)
	if err != nil {
		return err
	}
	source, err := os.Open(path)
	if err != nil {
		return plain(err)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return plain(err)
	}

	model, err := readModel(source, info.Size(), path)
	if err != nil {
		return err
	}
	size, err := measure(model)
	if err != nil {
		return err
	}
	tensors, err := layout(model, size)
	if err != nil {
		return err
	}
	tokens, err := readTokens(dir)
	if err != nil {
		return err
	}
	return write(out, ggmlFile{size: size, tokens: tokens, tensors: tensors}, progress)
}

// contents are what a file is made of.
type contents interface {
	bytes() int64 // that writeTo writes
	writeTo(io.Writer) error
}

// write puts the file together beside its final name and moves it there when it
// is complete and on the disk.
func write(out string, file contents, progress func(done, total int64)) (err error) {
	if _, err := os.Stat(out); err == nil {
		return fmt.Errorf("%s exists already: remove it, or name another file to write", out)
	}
	part := out + ".part"
	target, err := os.Create(part)
	if err != nil {
		return plain(err)
	}
	defer func() {
		if err != nil {
			target.Close()
			os.Remove(part)
		}
	}()
	buffered := bufio.NewWriterSize(target, chunkBytes)
	counted := &progressWriter{to: buffered, total: file.bytes(), report: progress}
	_, _ = counted.Write(nil) // shows that it began; nothing is written
	if err := file.writeTo(counted); err != nil {
		return plain(err)
	}
	if err := buffered.Flush(); err != nil {
		return plain(err)
	}
	if counted.done != counted.total {
		return fmt.Errorf("%s came out at %d bytes where %d were planned: this is a bug in the converter", out, counted.done, counted.total)
	}
	if err := target.Sync(); err != nil {
		return plain(err)
	}
	if err := target.Close(); err != nil {
		return plain(err)
	}
	return plain(os.Rename(part, out))
}

// plain turns the operating system's error into a sentence that starts with the
// path, as the other errors of this package do. It passes on any other error.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return fmt.Errorf("%s: cannot %s it: %w", filepath.Clean(pathError.Path), pathError.Op, pathError.Err)
	}
	return err
}
