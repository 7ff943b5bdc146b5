// Refs of tokens in Java, held to vectors.json by a test.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;

final class Ref {
    static String sha256(String text) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        return Base64.getUrlEncoder().withoutPadding().encodeToString(hash);
    }

    /** token.ref of a compact JWS, and token.outer_ref of a compact JWE: the text up to the last dot. */
    static String tokenRef(String token) throws Exception {
        return sha256(token.substring(0, token.lastIndexOf('.')));
    }

    /** token.jti_ref, where the token's text is out of reach. */
    static String jtiRef(String iss, String jti) throws Exception {
        return sha256(iss + "\u001f" + jti);
    }

    /** One token, or ISS, a tab and JTI, a line. */
    public static void main(String[] args) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            int tab = line.indexOf('\t');
            System.out.println(tab < 0 ? tokenRef(line) : jtiRef(line.substring(0, tab), line.substring(tab + 1)));
        }
    }
}
