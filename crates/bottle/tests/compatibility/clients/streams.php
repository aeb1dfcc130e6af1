<?php
// VERSION URL [BODY]: with streams. A refusal is an error unless `ignore_errors` is set.
[, , $url] = $argv;
$options = ["ignore_errors" => true];
if (isset($argv[3])) {
    $options += ["method" => "POST", "content" => file_get_contents($argv[3])];
    $options["header"] = "Content-Type: application/octet-stream";
}
echo file_get_contents($url, false, stream_context_create(["http" => $options])), "\n";
