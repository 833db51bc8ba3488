#include "clients/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

namespace pangea::clients {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

// Where systems other than Debian keep their bundle (the places that Go's crypto/x509 looks at): the OpenSSL that is
// linked in is Debian's, and knows only /usr/lib/ssl.
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                                    "/etc/ssl/cert.pem"};

// The certificate is in order, but nobody who is trusted has signed it.
bool OfTrust(long result) {
  return result == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT || result == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
         result == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || result == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
         result == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

}  // namespace

absl::StatusOr<ssl::context> MakeTlsContext(const std::string& ca_file) {
  ssl::context context(ssl::context::tls_client);
  error_code error;
  context.set_verify_mode(ssl::verify_peer, error);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  if (!ca_file.empty()) {
    context.load_verify_file(ca_file, error);
    if (error) return absl::InvalidArgumentError("cannot read certificates (PEM) from " + ca_file);
    return context;
  }
  context.set_default_verify_paths(error);
  if (getenv("SSL_CERT_FILE") != nullptr || getenv("SSL_CERT_DIR") != nullptr) return context;
  for (const char* bundle : kBundles) {
    if (access(bundle, R_OK) != 0) continue;
    context.load_verify_file(bundle, error);
    break;
  }
  return context;
}

absl::Status ExpectHost(SSL* ssl, const std::string& host) {
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1) return absl::OkStatus();
  ERR_clear_error();
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);  // no f*.example.org (RFC 9525, 6.3)
  // The name also goes into the handshake: a server of several hosts picks its certificate by it.
  if (SSL_set1_host(ssl, host.c_str()) != 1 || SSL_set_tlsext_host_name(ssl, host.c_str()) != 1)
    return absl::InvalidArgumentError("\"" + host + "\" is no host name that a certificate can be checked for");
  return absl::OkStatus();
}

std::string HandshakeFailure(SSL* ssl, const error_code& error) {
  const bool of_ssl = error.category() == boost::asio::error::get_ssl_category();
  const int reason = of_ssl ? ERR_GET_REASON(static_cast<unsigned long>(error.value())) : 0;
  if (reason == SSL_R_WRONG_VERSION_NUMBER) return "the server speaks no TLS on this port; write http://";
  if (reason != SSL_R_CERTIFICATE_VERIFY_FAILED) return "TLS handshake: " + error.message();
  const long result = SSL_get_verify_result(ssl);
  std::string text = std::string("the server's certificate is refused: ") + X509_verify_cert_error_string(result);
  if (OfTrust(result)) text += "; --ca-file FILE names an authority to trust";
  return text;
}

}  // namespace pangea::clients
