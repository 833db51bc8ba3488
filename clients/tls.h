// TLS of the HTTP client: certificate and host name are always verified.
#pragma once
#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pangea::clients {

// TLS 1.2 or newer. Trusts the system's authorities (SSL_CERT_FILE and SSL_CERT_DIR replace them), or, when it is not
// empty, those in ca_file (PEM) alone. InvalidArgument: no certificate can be read from that file.
absl::StatusOr<boost::asio::ssl::context> MakeTlsContext(const std::string& ca_file);
// Before the handshake: which host the certificate must be for, a name or an address.
absl::Status ExpectHost(SSL* ssl, const std::string& host);
// What went wrong in a handshake, in words, with what to do about it.
std::string HandshakeFailure(SSL* ssl, const boost::system::error_code& error);

}  // namespace pangea::clients
