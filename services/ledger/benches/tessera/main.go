// Appends records to a Tessera POSIX log, so many at a time, each batch awaited before the next: the same appends as the
// ledger's own benchmark makes.
//
//	tessera-bench DIR BATCH FILE    FILE has one record a line
//
// It prints records per second, and the median and 99th percentile of a batch's latency in microseconds.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

const limit = 3 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx := context.Background()
	batch, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	records, err := lines(os.Args[3])
	if err != nil {
		return err
	}
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/log")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: os.Args[1]})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(batch), 100*time.Millisecond).
		WithCheckpointInterval(100 * time.Millisecond)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	var took []time.Duration
	started := time.Now()
	for len(records) >= batch && time.Since(started) < limit {
		begun := time.Now()
		futures := make([]tessera.IndexFuture, batch)
		for i, record := range records[:batch] {
			futures[i] = appender.Add(ctx, tessera.NewEntry(record))
		}
		for _, future := range futures {
			if _, err := future(); err != nil {
				return err
			}
		}
		records = records[batch:]
		took = append(took, time.Since(begun))
	}
	total := time.Since(started)
	if err := shutdown(ctx); err != nil {
		return err
	}
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[(len(took)-1)*percent/100].Nanoseconds()) / 1e3
	}
	fmt.Println(float64(batch*len(took))/total.Seconds(), at(50), at(99))
	return nil
}

func lines(path string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var records [][]byte
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		records = append(records, slices.Clone(scanner.Bytes()))
	}
	return records, scanner.Err()
}
