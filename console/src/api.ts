// The contract's services, over gRPC-web.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ConsoleService } from "./gen/vedette/v1/console_pb";
import { LabelService } from "./gen/vedette/v1/label_pb";
import { ModelService } from "./gen/vedette/v1/model_pb";
import { PolicyService } from "./gen/vedette/v1/policy_pb";
import { QueryService } from "./gen/vedette/v1/query_pb";
import { KEY_HEADER, key } from "./session";

const withKey: Interceptor = (next) => (request) => {
  request.header.set(KEY_HEADER, key());
  return next(request);
};

const transport = createGrpcWebTransport({ baseUrl: location.origin, interceptors: [withKey] });

export const consoleApi = createClient(ConsoleService, transport);
export const queryApi = createClient(QueryService, transport);
export const policyApi = createClient(PolicyService, transport);
export const modelApi = createClient(ModelService, transport);
export const labelApi = createClient(LabelService, transport);

/** What went wrong, for people. */
export function said(error: unknown): string {
  const problem = ConnectError.from(error);
  if (problem.code === Code.Unauthenticated) return "The session is over, or the token was refused: run `vedette console` again.";
  if (problem.code === Code.PermissionDenied) return `Not allowed: ${problem.rawMessage}`;
  if (problem.code === Code.Unavailable || /fetch|network/i.test(problem.rawMessage)) return `The aggregator cannot be reached: ${problem.rawMessage}`;
  return problem.rawMessage;
}
