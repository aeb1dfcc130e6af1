import javax.servlet.http.HttpServletRequest;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;
import org.eclipse.jgit.http.server.GitServlet;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.transport.ReceivePack;
import org.eclipse.jgit.transport.resolver.ReceivePackFactory;

/** JGit's servlet on Jetty: the repositories of a folder, which anybody may push to. */
public class GitServer {
    public static void main(String[] arguments) throws Exception {
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(arguments[1]));
        server.addConnector(connector);
        GitServlet servlet = new GitServlet();
        servlet.setReceivePackFactory(new ReceivePackFactory<HttpServletRequest>() {
            public ReceivePack create(HttpServletRequest request, Repository repository) {
                return new ReceivePack(repository);
            }
        });
        ServletHolder holder = new ServletHolder(servlet);
        holder.setInitParameter("base-path", arguments[0]);
        holder.setInitParameter("export-all", "true");
        ServletContextHandler context = new ServletContextHandler();
        context.addServlet(holder, "/*");
        server.setHandler(context);
        server.start();
        server.join();
    }
}
