package caddymodule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// arguments takes the rest of the line, which must have between least and most values, none empty.
func arguments(d *caddyfile.Dispenser, usage string, least, most int) ([]string, error) {
	args := d.RemainingArgs()
	if len(args) < least || len(args) > most {
		return nil, d.Errf("wrong number of values; write: %s", usage)
	}
	if slices.Contains(args, "") {
		return nil, d.Errf("an empty value; write: %s", usage)
	}
	return args, nil
}

// single is a parser of one value.
func single[T any](set func(into T, value string) error) parser[T] {
	return func(d *caddyfile.Dispenser, usage string, into T) error {
		args, err := arguments(d, usage, 1, 1)
		if err != nil {
			return err
		}
		if err := set(into, args[0]); err != nil {
			return d.Errf("%v; write: %s", err, usage)
		}
		return nil
	}
}

func text[T any](check func(string) error, field func(T) *string) parser[T] {
	return single(func(into T, value string) error {
		*field(into) = value
		return check(value)
	})
}

func count[T any](most int, field func(T) *int) parser[T] {
	return single(func(into T, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 || n > most {
			return fmt.Errorf("%q is not a number from 1 to %d", value, most)
		}
		*field(into) = n
		return nil
	})
}

func number[T any](check func(float64) error, field func(T) *float64) parser[T] {
	return single(func(into T, value string) error {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
		*field(into) = n
		return check(n)
	})
}

func percentage[T any](field func(T) *float64) parser[T] {
	return single(func(into T, value string) error {
		digits, ok := strings.CutSuffix(value, "%")
		n, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || checkShare(n/100) != nil {
			return fmt.Errorf("%q is not a percentage above 0%% and up to 100%%, such as 10%%", value)
		}
		*field(into) = n / 100
		return nil
	})
}

func onOff[T any](field func(T) *bool) parser[T] {
	return single(func(into T, value string) error {
		if value != "on" && value != "off" {
			return fmt.Errorf("%q is neither on nor off", value)
		}
		*field(into) = value == "on"
		return nil
	})
}

func size[T any](field func(T) *int64) parser[T] {
	return single(func(into T, value string) error {
		n, err := humanize.ParseBytes(value)
		if err != nil || n == 0 || n > 1<<62 {
			return fmt.Errorf("%q is not a size above 0, such as 256MiB", value)
		}
		*field(into) = int64(n)
		return nil
	})
}

func duration[T any](field func(T) *caddy.Duration) parser[T] {
	return single(func(into T, value string) error {
		n, err := caddy.ParseDuration(value)
		if err != nil || n < time.Millisecond {
			return fmt.Errorf("%q is not a duration above 0, such as 30s or 4m", value)
		}
		*field(into) = caddy.Duration(n)
		return nil
	})
}

// block is a parser of a block of options for a part of the configuration.
func block[T, B any](name string, known options[*B], field func(T) **B) parser[T] {
	return func(d *caddyfile.Dispenser, usage string, into T) error {
		if d.NextArg() {
			return d.Errf("%s takes a block, not values; write: %s", name, usage)
		}
		part := new(B)
		*field(into) = part
		return parseBlock(d, name, known, part)
	}
}
