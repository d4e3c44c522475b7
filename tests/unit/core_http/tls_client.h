// A blocking TLS client for tests of servers.
#pragma once

#include <openssl/ssl.h>

#include <algorithm>
#include <string>

namespace tallygate::http {

// Trusts one authority.
class TlsClient {
 public:
  // `version`: the only one that it speaks; 0: all. `protocols`: what it offers by ALPN, each behind its length.
  TlsClient(uint16_t port, const std::string& ca_file, int version = 0, const std::string& protocols = "")
      : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_load_verify_file(context_, ca_file.c_str());
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    if (version != 0) {
      SSL_CTX_set_security_level(context_, 0);  // else the client itself would refuse old versions
      SSL_CTX_set_min_proto_version(context_, version);
      SSL_CTX_set_max_proto_version(context_, version);
    }
    if (!protocols.empty()) {
      SSL_CTX_set_alpn_protos(context_, reinterpret_cast<const unsigned char*>(protocols.data()),
                              static_cast<unsigned>(protocols.size()));
    }
    bio_ = BIO_new_ssl_connect(context_);
    BIO_set_conn_hostname(bio_, ("127.0.0.1:" + std::to_string(port)).c_str());
    connected_ = BIO_do_connect(bio_) == 1 && BIO_do_handshake(bio_) == 1;
  }
  ~TlsClient() {
    BIO_free_all(bio_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  bool connected() const { return connected_; }
  std::string version() const { return SSL_get_version(ssl()); }
  std::string cipher() const { return SSL_get_cipher_name(ssl()); }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl(), &name, &size);
    return std::string(reinterpret_cast<const char*>(name), size);
  }
  int chain_length() const { return sk_X509_num(SSL_get_peer_cert_chain(ssl())); }
  // Of a connection that stays open: what comes at once.
  std::string ask(const std::string& bytes) {
    BIO_write(bio_, bytes.data(), static_cast<int>(bytes.size()));
    std::string answer(8192, '\0');
    answer.resize(static_cast<size_t>(std::max(0, BIO_read(bio_, answer.data(), static_cast<int>(answer.size())))));
    return answer;
  }
  // All that comes until the connection ends.
  std::string exchange(const std::string& bytes) {
    BIO_write(bio_, bytes.data(), static_cast<int>(bytes.size()));
    std::string all;
    char piece[4096];
    for (int n = 0; (n = BIO_read(bio_, piece, sizeof piece)) > 0;) all.append(piece, static_cast<size_t>(n));
    return all;
  }

 private:
  SSL* ssl() const {
    SSL* ssl = nullptr;
    BIO_get_ssl(bio_, &ssl);
    return ssl;
  }
  SSL_CTX* context_;
  BIO* bio_ = nullptr;
  bool connected_ = false;
};

}  // namespace tallygate::http
