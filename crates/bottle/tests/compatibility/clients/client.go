// VERSION URL [BODY]: with net/http.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	method, body := "GET", []byte(nil)
	if len(os.Args) > 3 {
		method = "POST"
		body, _ = os.ReadFile(os.Args[3])
	}
	request, err := http.NewRequest(method, os.Args[2], bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(response.Body)
	fmt.Println(response.Proto, err)
	fmt.Println(string(content))
}
