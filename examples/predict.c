/* An exported model answers without Python: through TensorFlow's C API, strings in, answers out.
 *
 *   TF=$(python -c 'import tensorflow as tf; print(tf.sysconfig.get_lib())')    # or where libtensorflow was unpacked
 *   cc examples/predict.c -I$TF/include -L$TF -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,$TF -o predict
 *   ./predict saved_models/sentiment-sample/1 serving_default_texts StatefulPartitionedCall:0 'a text' 'another'
 *
 * The names of inputs and outputs are those of `saved_model_cli show --all`, or of /v1/models/NAME/metadata: here the label, the first
 * output of serving_default. Outputs of strings and of floats are printed, a row a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(const TF_Status *status) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "error: %s\n", TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, char *name) {
  char *colon = strchr(name, ':');
  if (colon) *colon = '\0';
  TF_Output found = {TF_GraphOperationByName(graph, name), colon ? atoi(colon + 1) : 0};
  if (!found.oper) {
    fprintf(stderr, "error: the graph has no %s\n", name);
    exit(1);
  }
  return found;
}

int main(int count, char **words) {
  if (count < 5) {
    fprintf(stderr, "usage: %s FOLDER INPUT OUTPUT[:NUMBER] TEXT...\n", words[0]);
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, words[1], tags, 1, graph, NULL, status);
  check(status);
  TF_Output input = find(graph, words[2]), output = find(graph, words[3]);

  int64_t rows = count - 4;
  TF_Tensor *texts = TF_AllocateTensor(TF_STRING, &rows, 1, rows * sizeof(TF_TString)), *answers = NULL;
  TF_TString *strings = TF_TensorData(texts);
  for (int64_t row = 0; row < rows; row++) {
    TF_StringInit(&strings[row]);
    TF_StringCopy(&strings[row], words[4 + row], strlen(words[4 + row]));
  }
  TF_SessionRun(session, NULL, &input, &texts, 1, &output, &answers, 1, NULL, 0, NULL, status);
  check(status);

  int64_t values = TF_TensorElementCount(answers);
  for (int64_t i = 0; i < values; i++) {
    if (TF_TensorType(answers) == TF_STRING) {
      const TF_TString *answer = (const TF_TString *)TF_TensorData(answers) + i;
      fwrite(TF_StringGetDataPointer(answer), 1, TF_StringGetSize(answer), stdout);
    } else if (TF_TensorType(answers) == TF_FLOAT) {
      printf("%.6g", ((const float *)TF_TensorData(answers))[i]);
    }
    putchar((i + 1) % (values / rows) ? '\t' : '\n');
  }
  for (int64_t row = 0; row < rows; row++) TF_StringDealloc(&strings[row]);
  TF_DeleteTensor(texts);
  TF_DeleteTensor(answers);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
