// Command whisperpool is Caddy with the whisper_pool handler in it: one address for a mixed pool of
// whisper servers. It has all of Caddy's commands and standard modules; see whisperpool --help. The
// configuration is a Caddyfile, as the one at the top of this project's tree.
package main

import (
	_ "time/tzdata" // Caddy's log formats and time matchers work on machines without zone files

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/whisperpool/whisperpool/caddymodule"
)

// version is set by the build, with -ldflags "-X main.version=...".
var version string

func main() {
	boundGarbage()
	caddy.CustomBinaryName = "whisperpool"
	caddy.CustomLongDescription = "whisperpool is Caddy with the whisper_pool handler: one address for a mixed pool of whisper servers.\n" +
		"Try: whisperpool run --config Caddyfile"
	if version != "" {
		caddy.CustomVersion = "whisperpool " + version
	}
	caddycmd.Main()
}
