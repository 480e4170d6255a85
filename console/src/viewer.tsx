// Who looks, for whatever part of a page wants to know.
import { createContext } from "preact";
import { useContext } from "preact/hooks";

export interface Viewer {
  /** viewer, operator, admin. */
  role: string;
  /** The name of the token's user, or its file. */
  token: string;
  /** Stands in labels and answers. */
  author: string;
  cluster: string;
  version: string;
  endsMs: number;
  mayAnswer: boolean;
}

export const ViewerContext = createContext<Viewer>({
  role: "",
  token: "",
  author: "",
  cluster: "",
  version: "",
  endsMs: 0,
  mayAnswer: false,
});

export const useViewer = () => useContext(ViewerContext);
