// Where the REST door listens.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"

namespace pangea {

// Every address that the name has, each once; a wildcard is one socket for IPv6 and IPv4, as gRPC takes it.
absl::StatusOr<std::vector<boost::asio::ip::tcp::endpoint>> ListenEndpoints(boost::asio::io_context& io,
                                                                            const HostPort& at);

// Listens at all of them, on one port: with port 0 one that is free at each. An address that the host has not is left
// out. Empty, with the error: none is left, or one is taken.
std::vector<boost::asio::ip::tcp::acceptor> ListenAt(boost::asio::io_context& io,
                                                     const std::vector<boost::asio::ip::tcp::endpoint>& endpoints,
                                                     boost::system::error_code* error);

}  // namespace pangea
