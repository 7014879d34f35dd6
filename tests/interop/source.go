package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// maxResource is larger than any resource of a tlog-tiles log: 256 entries of 65,535 bytes behind their lengths.
const maxResource = 256 * (65535 + 2)

// logFlags say where a log is, and who is trusted to sign it.
type logFlags struct {
	flags  *flag.FlagSet
	log    *string
	key    *string
	bearer *string
	old    *string
}

func newLogFlags(name string) logFlags {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	return logFlags{
		flags:  flags,
		log:    flags.String("log", "", "the log: a directory or an http URL"),
		key:    flags.String("key", "", "a file with the verifier key"),
		bearer: flags.String("bearer", "", "a file with the token that is sent over HTTP"),
		old:    flags.String("old", "", "a file with an older checkpoint that the log has to continue"),
	}
}

// open reads the flags and returns the log's source and its key.
func (f logFlags) open(args []string) (source, note.Verifier, error) {
	if err := f.flags.Parse(args); err != nil {
		return source{}, nil, err
	}
	key, err := readKey(*f.key)
	if err != nil {
		return source{}, nil, err
	}
	from := source{root: *f.log}
	if *f.bearer != "" {
		token, err := os.ReadFile(*f.bearer)
		if err != nil {
			return source{}, nil, err
		}
		from.bearer = strings.TrimSpace(string(token))
	}
	return from, key, nil
}

func readKey(file string) (note.Verifier, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(strings.TrimSpace(string(text)))
}

// source is a directory or a URL that holds a log.
type source struct {
	root   string
	bearer string
}

func (s source) isHTTP() bool { return strings.HasPrefix(s.root, "http://") }

// get reads one resource whole. A resource that is not there is fs.ErrNotExist.
func (s source) get(ctx context.Context, path string) ([]byte, error) {
	if !s.isHTTP() {
		return os.ReadFile(filepath.Join(s.root, filepath.FromSlash(path)))
	}
	location, err := url.JoinPath(s.root, path)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	if s.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+s.bearer)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return io.ReadAll(io.LimitReader(response.Body, maxResource))
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
}

// tile reads a tile of hashes (level 0 to 63) or of entries (level -1). Where a partial tile is gone because its full
// tile is there, the full one's beginning is returned, as the specification has it.
func (s source) tile(ctx context.Context, level int, index int64, width int) ([]byte, error) {
	path := tilePath(level, index)
	if width == 256 {
		return s.get(ctx, path)
	}
	data, err := s.get(ctx, fmt.Sprintf("%s.p/%d", path, width))
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	full, fullErr := s.get(ctx, path)
	if fullErr != nil {
		return nil, err
	}
	if level >= 0 {
		return full[:min(len(full), width*32)], nil
	}
	entries, err := splitEntries(full)
	if err != nil || len(entries) < width {
		return nil, fmt.Errorf("%s: not a full bundle: %v", path, err)
	}
	var cut []byte
	for _, entry := range entries[:width] {
		cut = appendEntry(cut, entry)
	}
	return cut, nil
}

// tilePath is the path of a full tile: its number in elements of three digits, all but the last behind an x.
func tilePath(level int, index int64) string {
	number := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		number = fmt.Sprintf("x%03d/%s", index%1000, number)
	}
	if level < 0 {
		return "tile/entries/" + number
	}
	return fmt.Sprintf("tile/%d/%s", level, number)
}

// splitEntries splits an entry bundle: each entry behind its length in two big-endian bytes.
func splitEntries(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, fmt.Errorf("the bundle ends inside entry %d", len(entries))
		}
		length := int(bundle[0])<<8 | int(bundle[1])
		if len(bundle) < 2+length {
			return nil, fmt.Errorf("the bundle ends inside entry %d", len(entries))
		}
		entries = append(entries, bundle[2:2+length])
		bundle = bundle[2+length:]
	}
	return entries, nil
}

func appendEntry(bundle, entry []byte) []byte {
	bundle = append(bundle, byte(len(entry)>>8), byte(len(entry)))
	return append(bundle, entry...)
}
