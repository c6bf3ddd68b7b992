// The fake Pub/Sub server of Google's Go client (pstest) as a process, with a second port on which tests look at it and change it.
//
// It prints the addresses of both ports, one a line, and ends when its standard input is closed.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusals are the answers to methods that a test has asked for, by name of the method.
type refusals struct {
	sync.Mutex
	byMethod map[string]error
}

func (r *refusals) of(method string) error {
	r.Lock()
	defer r.Unlock()
	return r.byMethod[method]
}

func (r *refusals) set(method string, err error) {
	r.Lock()
	defer r.Unlock()
	r.byMethod[method] = err
}

// reactor refuses one method while a test wants that.
type reactor struct {
	method  string
	refused *refusals
}

func (r reactor) React(_ any) (bool, any, error) {
	err := r.refused.of(r.method)
	return err != nil, nil, err
}

type message struct {
	ID         string  `json:"id"`
	Deliveries int     `json:"deliveries"`
	Acks       int     `json:"acks"`
	Deadlines  []int32 `json:"deadlines"`
}

func number(request *http.Request, name string) int {
	value, err := strconv.Atoi(request.URL.Query().Get(name))
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	refused := &refusals{byMethod: map[string]error{}}
	var options []pstest.ServerReactorOption
	for _, method := range []string{
		"CreateSubscription", "GetSubscription", "UpdateSubscription", "DeleteSubscription", "Acknowledge", "ModifyAckDeadline",
	} {
		options = append(options, pstest.ServerReactorOption{FuncName: method, Reactor: reactor{method, refused}})
	}
	server := pstest.NewServerWithAddress("127.0.0.1:0", options...)
	pstest.ResetMinAckDeadline()

	var lock sync.Mutex
	var ahead time.Duration
	server.SetTimeNowFunc(func() time.Time {
		lock.Lock()
		defer lock.Unlock()
		return time.Now().Add(ahead)
	})

	// GET /messages: what was published, and what became of it.
	http.HandleFunc("/messages", func(answer http.ResponseWriter, _ *http.Request) {
		found := []message{}
		for _, each := range server.Messages() {
			deadlines := []int32{}
			for _, modack := range each.Modacks {
				deadlines = append(deadlines, modack.AckDeadline)
			}
			found = append(found, message{each.ID, each.Deliveries, each.Acks, deadlines})
		}
		_ = json.NewEncoder(answer).Encode(found)
	})
	// POST /advance?seconds=30: deadlines expire as if that time had passed.
	http.HandleFunc("/advance", func(_ http.ResponseWriter, request *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		ahead += time.Duration(number(request, "seconds")) * time.Second
	})
	// POST /refuse?method=CreateSubscription&code=16: that status is the answer from now on; 0: none.
	http.HandleFunc("/refuse", func(_ http.ResponseWriter, request *http.Request) {
		var err error
		if code := codes.Code(number(request, "code")); code != codes.OK {
			err = status.Error(code, "refused by the test")
		}
		refused.set(request.URL.Query().Get("method"), err)
	})

	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { panic(http.Serve(control, nil)) }()
	fmt.Println(server.Addr)
	fmt.Println(control.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
