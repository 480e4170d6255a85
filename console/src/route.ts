// Where one is: the part after `#`, as a path and parameters.
import { useEffect, useState } from "preact/hooks";
import type { Workload } from "./gen/vedette/v1/types_pb";

export interface Route {
  page: string;
  id: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", id = ""] = path.split("/");
  let name = "";
  try {
    name = decodeURIComponent(id);
  } catch {
    // Half an escape in an address that somebody typed.
  }
  return { page, id: name, query: new URLSearchParams(query) };
}

export function useRoute(): Route {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => set(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

export const go = (href: string) => {
  location.hash = href.replace(/^#/, "");
};

export const toIncident = (id: bigint) => `#/incident/${id}`;
export const toContainer = (id: string) => `#/container/${encodeURIComponent(id)}`;
export const toNode = (name: string) => `#/node/${encodeURIComponent(name)}`;

export function toWorkload(workload: Workload): string {
  const { cluster, namespace, ownerKind, ownerName, containerName } = workload;
  const query = new URLSearchParams({ cluster, namespace, kind: ownerKind, owner: ownerName, container: containerName });
  return `#/workload/?${query}`;
}
