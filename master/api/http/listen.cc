#include "master/api/http/listen.h"

#include <algorithm>
#include <boost/asio/ip/v6_only.hpp>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "master/listen.h"

namespace pangea {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kPortTries = 16;

error_code Bind(const tcp::endpoint& endpoint, tcp::acceptor* acceptor) {
  error_code error;
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error && endpoint.address().is_v6()) {
    // A v4-mapped address is IPv4 in the clothes of IPv6: a socket for IPv6 alone cannot have it.
    const bool alone = !endpoint.address().is_unspecified() && !endpoint.address().to_v6().is_v4_mapped();
    acceptor->set_option(asio::ip::v6_only(alone), error);
  }
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
  return error;
}

// The host has no such address: a name may tell more than there are, and a host may have no IPv6.
bool IsMissing(const error_code& error) {
  return error == asio::error::address_family_not_supported ||
         error == error_code(EADDRNOTAVAIL, boost::system::system_category());
}

// All on one port. error: none could be bound, or one is taken.
std::vector<tcp::acceptor> BindAll(asio::io_context& io, std::vector<tcp::endpoint> endpoints, error_code* error) {
  std::vector<tcp::acceptor> acceptors;
  for (size_t i = 0; i < endpoints.size(); ++i) {
    tcp::acceptor acceptor(io);
    if (!acceptors.empty()) endpoints[i].port(acceptors[0].local_endpoint().port());
    *error = Bind(endpoints[i], &acceptor);
    if (!*error) {
      acceptors.push_back(std::move(acceptor));
    } else if (!IsMissing(*error)) {
      return {};
    } else if (endpoints[i].address().is_unspecified() && endpoints[i].protocol() == tcp::v6()) {
      endpoints.push_back(tcp::endpoint(tcp::v4(), endpoints[i].port()));
    }
  }
  if (!acceptors.empty()) *error = {};
  return acceptors;
}

}  // namespace

absl::StatusOr<std::vector<tcp::endpoint>> ListenEndpoints(asio::io_context& io, const HostPort& at) {
  const auto port = static_cast<uint16_t>(at.port);
  std::vector<tcp::endpoint> endpoints;
  if (at.host == kEverywhere) return std::vector{tcp::endpoint(tcp::v6(), port)};
  error_code error;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(at.host, std::to_string(at.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty())
    return absl::InvalidArgumentError(absl::StrCat("rest.listen: no address for '", at.host, "': ", error.message()));
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_unspecified()) return std::vector{tcp::endpoint(tcp::v6(), port)};
    if (std::find(endpoints.begin(), endpoints.end(), entry.endpoint()) == endpoints.end())
      endpoints.push_back(entry.endpoint());
  }
  return endpoints;
}

std::vector<tcp::acceptor> ListenAt(asio::io_context& io, const std::vector<tcp::endpoint>& endpoints,
                                    error_code* error) {
  std::vector<tcp::acceptor> acceptors;
  // A port that the system picked for one address may be taken at the next.
  for (int tries = endpoints[0].port() == 0 ? kPortTries : 1; tries > 0 && acceptors.empty(); --tries)
    acceptors = BindAll(io, endpoints, error);
  return acceptors;
}

}  // namespace pangea
