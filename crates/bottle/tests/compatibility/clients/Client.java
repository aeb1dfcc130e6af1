// VERSION URL [BODY]: with java.net.http.HttpClient, or with HttpURLConnection where OLD is set.
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

class Client {
    public static void main(String[] arguments) throws Exception {
        var body = arguments.length > 2 ? Files.readAllBytes(Path.of(arguments[2])) : null;
        if (System.getenv("OLD") != null) {
            connection(arguments[1], body);
            return;
        }
        var version = arguments[0].equals("2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1;
        var request = HttpRequest.newBuilder(URI.create(arguments[1]));
        if (body != null) request.POST(BodyPublishers.ofByteArray(body));
        var client = HttpClient.newBuilder().version(version).build();
        var response = client.send(request.build(), BodyHandlers.ofString());
        System.out.println(response.version() == HttpClient.Version.HTTP_2 ? "HTTP/2" : "HTTP/1.1");
        System.out.println(response.body());
    }

    static void connection(String url, byte[] body) throws Exception {
        var connection = (HttpURLConnection) new URL(url).openConnection();
        if (body != null) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(body);
        }
        var refused = connection.getResponseCode() >= 400;
        var stream = refused ? connection.getErrorStream() : connection.getInputStream();
        System.out.println(new String(stream.readAllBytes()));
    }
}
