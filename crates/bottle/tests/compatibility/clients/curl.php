<?php
// VERSION URL [BODY]: with the extension curl.
[, $version, $url] = $argv;
$curl = curl_init($url);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
curl_setopt($curl, CURLOPT_HTTP_VERSION, $version === "2" ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
if (isset($argv[3])) {
    curl_setopt($curl, CURLOPT_POSTFIELDS, file_get_contents($argv[3]));
}
$response = curl_exec($curl);
echo curl_error($curl), curl_getinfo($curl, CURLINFO_HTTP_VERSION) === 3 ? "HTTP/2" : "HTTP/1.1", "\n", $response, "\n";
