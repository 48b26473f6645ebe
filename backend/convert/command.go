package convert

import "io"

// Command is the command line `whisper-backend convert DIR OUT`; args are DIR
// and OUT. It returns the process's exit code.
func Command(args []string, stdout, stderr io.Writer) int {
	return 1
}
