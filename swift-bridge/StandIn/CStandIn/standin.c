#include "coreml_standin.h"
