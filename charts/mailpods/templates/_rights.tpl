{{/* What the operator may do where it works: docs/rights.md says what each right could do in wrong hands. */}}
{{- define "mailpods.operatorRules" -}}
# What users write. No create: the operator makes no mailbox.
- apiGroups: [mailpods.io]
  resources: [mailservers, maildomains, mailboxes, mailaliases, mailinglists, relaypolicies]
  verbs: [list, watch]
# Numbers and logins that were blank are filled in by server-side apply.
- apiGroups: [mailpods.io]
  resources: [maildomains, mailboxes]
  verbs: [patch]
# With a domain whose deletionPolicy is Delete, what is in it goes.
- apiGroups: [mailpods.io]
  resources: [mailboxes, mailaliases, mailinglists]
  verbs: [delete]
# Conditions, and what else the status says.
- apiGroups: [mailpods.io]
  resources:
    - mailservers/status
    - maildomains/status
    - mailboxes/status
    - mailaliases/status
    - mailinglists/status
    - relaypolicies/status
  verbs: [patch]
# A MailServer is the owner of its objects and waits for their end (blockOwnerDeletion), which the admission
# plugin OwnerReferencesPermissionEnforcement allows only with this.
- apiGroups: [mailpods.io]
  resources: [mailservers/finalizers]
  verbs: [update]
# get: passwords, certificates and smarthost credentials, which lie in tenants' namespaces under names of their
# choice, so all of a namespace. list, watch: to see at once that one changed; the operator asks for metadata
# alone, RBAC cannot say so. create, patch: directory and credentials of mail pods, generated passwords,
# certificates. No delete: Secrets go with the object that owns them.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# What a MailServer leads to. list, watch: what was changed by hand comes back. create, patch: server-side apply.
# delete: what a server has no longer, as a bulk pool without replicas; with the MailServer all of it goes by owner
# references. get: a Service's address, to see that it leads to the pods before anything is said to be Ready.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
# Volumes that are to grow (storage.size, storage.spoolSize of a MailServer): StatefulSets do not do it.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, patch]
# What cert-manager is asked for, where a MailServer names an issuer. delete: once it names none any more.
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [create, patch, delete]
# list, watch: which mail pods serve, and at which address to ask what they have loaded. patch: an annotation
# that is touched, so that the kubelet syncs the directory at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# A rollout that is stuck at a pod which cannot start goes on once that pod is evicted.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Transitions of conditions.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
