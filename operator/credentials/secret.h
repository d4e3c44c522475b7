// The Secret in a namespace that its sidecars read: who writes it, and who mounts it, name its entries alike.
#pragma once

namespace tallygate::credentials {

inline constexpr char kSidecarSecret[] = "tallygate-sidecar";
inline constexpr char kManagedByLabel[] = "app.kubernetes.io/managed-by";
inline constexpr char kManagedByPath[] = "/metadata/labels/app.kubernetes.io~1managed-by";
inline constexpr char kOurs[] = "tallygate-operator";

inline constexpr char kRedisUrlKey[] = "redis-url";
inline constexpr char kAuthorityKey[] = "ca.crt";
inline constexpr char kPublicationKey[] = "publication-key";  // the public keys of what is published
inline constexpr char kPepperKey[] = "api-key-pepper";        // where API keys are published under it
inline constexpr char kLedgerTokenKey[] = "ledger-token";     // where leases from the ledger are on; put there by others

}  // namespace tallygate::credentials
