// Go's x/oauth2 with as many goroutines as requests in flight; with a store also SQLite (a commit
// each, synchronous=FULL) and go-redis (SET and PUBLISH). Works until the process is ended.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"golang.org/x/oauth2"
	redis "gopkg.in/redis.v5"
)

type work struct {
	TokenURL string   `json:"token_url"`
	RedisURL string   `json:"redis_url"`
	Database string   `json:"database"`
	Grants   []string `json:"grants"`
	InFlight int      `json:"in_flight"`
	Stores   bool     `json:"stores"`
}

// must ends the process: a peer that fails must not be measured.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

type store struct {
	read, write *sql.Stmt
	server      *redis.Client
}

func openStore(w *work) *store {
	db, err := sql.Open("sqlite3", w.Database+"?_journal_mode=WAL&_synchronous=FULL")
	must(err)
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE grants (id INTEGER PRIMARY KEY, refresh_token TEXT, " +
		"access_token TEXT, expires_at REAL)")
	must(err)
	tx, err := db.Begin()
	must(err)
	for number, token := range w.Grants {
		_, err = tx.Exec("INSERT INTO grants (id, refresh_token) VALUES (?, ?)", number, token)
		must(err)
	}
	must(tx.Commit())
	s := &store{}
	s.read, err = db.Prepare("SELECT refresh_token FROM grants WHERE id = ?")
	must(err)
	s.write, err = db.Prepare(
		"UPDATE grants SET refresh_token = ?, access_token = ?, expires_at = ? WHERE id = ?")
	must(err)
	address, err := url.Parse(w.RedisURL)
	must(err)
	s.server = redis.NewClient(&redis.Options{Addr: address.Host, PoolSize: w.InFlight})
	return s
}

func (s *store) refreshToken(number int) (token string) {
	must(s.read.QueryRow(number).Scan(&token))
	return token
}

func (s *store) keep(number int, token *oauth2.Token) {
	_, err := s.write.Exec(
		token.RefreshToken, token.AccessToken, float64(token.Expiry.Unix()), number)
	must(err)
	key := fmt.Sprintf("token:%d", number)
	published, err := json.Marshal(token)
	must(err)
	must(s.server.Set(key, published, time.Until(token.Expiry)).Err())
	must(s.server.Publish(key, string(published)).Err())
}

func refreshForEver(config *oauth2.Config, ctx context.Context, w *work, s *store, worker int) {
	for {
		for number := worker; number < len(w.Grants); number += w.InFlight {
			presented := w.Grants[number]
			if s != nil {
				presented = s.refreshToken(number)
			}
			token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: presented}).Token()
			must(err)
			if s != nil {
				s.keep(number, token)
			} else {
				w.Grants[number] = token.RefreshToken
			}
		}
	}
}

func main() {
	w := &work{}
	text, err := os.ReadFile(os.Args[1])
	must(err)
	must(json.Unmarshal(text, w))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = w.InFlight
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient,
		&http.Client{Transport: transport})
	config := &oauth2.Config{ClientID: "bench", ClientSecret: "bench-secret",
		Endpoint: oauth2.Endpoint{TokenURL: w.TokenURL, AuthStyle: oauth2.AuthStyleInParams}}
	var s *store
	if w.Stores {
		s = openStore(w)
	}
	for worker := 0; worker < w.InFlight; worker++ {
		go refreshForEver(config, ctx, w, s, worker)
	}
	select {}
}
